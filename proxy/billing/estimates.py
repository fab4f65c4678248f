"""What a call will probably weigh, before it goes up: what it is billed at if nobody learns better."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.billing.rate_tables import RateTable
from proxy.gemini import openai_bodies
from proxy.gemini.bodies import BodyFacts

BYTES_PER_TOKEN = 4
"""E-TEXT. Google: "a token is equivalent to about 4 characters" (https://ai.google.dev/gemini-api/docs/tokens)."""

PICTURE_TOKENS = 258
"""E-PICTURE. Google's figure for a picture, or a tile of a large one, where the price book has none for the model."""

AUDIO_BYTES_PER_TOKEN = 500
"""E-AUDIO. Google: 32 tokens a second (https://ai.google.dev/gemini-api/docs/tokens); a second taken for 16 kB."""

VIDEO_BYTES_PER_TOKEN = 833
"""E-VIDEO. Google: about 300 tokens a second, its sound included; a second taken for 250 kB."""

DOCUMENT_BYTES_PER_TOKEN = 194
"""E-DOCUMENT. Google: 258 tokens a page; a page taken for 50 kB."""

MAX_INPUT_TOKENS = 1 << 20
"""The most that Google takes in: larger than any model's context, and so the bound of these estimates."""

IMAGE_REST_TOKENS = 400
"""E-IMAGE-REST. Text and thinking that come with an image: 349 and 677 in two samples, and in a study of 49 calls 88 to
630 besides thinking (docs/metering.md, "Estimates")."""

IMAGE_TOKENS = 1120
"""E-IMAGE. An image of a size that the price book doesn't have for the model: most models' 1K."""

TEXT_OUTPUT_TOKENS = 1024
"""E-TEXT-OUTPUT. What a text model answers, thinking included. Ours, of no source: typical of chat."""

MAX_CANDIDATES = 8
"""The most that Google takes in candidateCount: what a client writes there mustn't make an estimate without a bound."""

MOST_PICTURES = 10
"""The most pictures that OpenAI's API takes in n, likewise."""

EMBEDS = frozenset(("embedContent", "batchEmbedContents", openai_bodies.EMBEDDINGS))
"""Operations that answer with no tokens."""


def estimate(facts: BodyFacts, operation_name: str, table: RateTable | None) -> dict[str, int]:
    """The probable quantities of a call, zeros left out.

    `operation_name` is the surface table's: "generateContent"; `table` has the model's rates, None where it has none.
    """
    if operation_name == openai_bodies.PICTURES:
        return {"output_image": min(max(facts.candidates, 1), MOST_PICTURES) * picture_tokens(table)}
    picture = (table and table.picture) or PICTURE_TOKENS
    quantities = {
        "input_text": -(-facts.text_bytes // BYTES_PER_TOKEN),
        "input_image": facts.inline_pictures * picture,
        "input_audio": facts.audio_bytes // AUDIO_BYTES_PER_TOKEN,
        "input_video": facts.video_bytes // VIDEO_BYTES_PER_TOKEN,
        "input_document": facts.document_bytes // DOCUMENT_BYTES_PER_TOKEN,
    }
    quantities = {name: min(quantity, MAX_INPUT_TOKENS) for name, quantity in quantities.items()}
    if operation_name not in EMBEDS:
        quantities |= _output(facts, table)
    return {name: quantity for name, quantity in quantities.items() if quantity > 0}


def picture_tokens(table: RateTable | None) -> int:
    """Tokens that a picture made in the compatibility layer is charged as (A-COMPATIBLE-PICTURE-IS-1K)."""
    return (table and table.image_tokens()) or IMAGE_TOKENS


def prompt_tokens(quantities: Mapping[str, int]) -> int:
    """What an estimate counts against a limit of prompt tokens."""
    return min(sum(tokens for name, tokens in quantities.items() if name.startswith("input_")), MAX_INPUT_TOKENS)


def images(facts: BodyFacts, model: str, quantities: Mapping[str, int]) -> int:
    """What it counts against a limit of images: one a candidate where images are made.

    A model without a price makes images if its name says so, or the request.
    """
    asks = facts.asks_images or facts.image_size is not None
    makes = "output_image" in quantities or asks or names_images(model)
    most = MAX_CANDIDATES if facts.named is None else MOST_PICTURES
    return min(max(facts.candidates, 1), most) if makes else 0


def names_images(model: str) -> bool:
    """Whether a model's id says that it makes images. That of every model of Google's that does says so.

    However it is spelt: nobody knows whether Google tells capitals from small letters.
    """
    model = model.lower()
    return "image" in model or "banana" in model


def _output(facts: BodyFacts, table: RateTable | None) -> dict[str, int]:
    candidates = min(max(facts.candidates, 1), MAX_CANDIDATES)
    if table is None or not table.is_image_model:
        return {"output_text": candidates * _capped(TEXT_OUTPUT_TOKENS, facts.max_output_tokens)}
    image = table.image_tokens(facts.image_size) or table.image_tokens() or IMAGE_TOKENS
    return {
        "output_image": candidates * image,
        "output_text": _capped(IMAGE_REST_TOKENS, facts.max_output_tokens),
    }


def _capped(typical: int, most: int | None) -> int:
    return typical if most is None or most <= 0 else min(typical, most)
