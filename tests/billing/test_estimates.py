"""What a call will probably weigh: by kind of model, with every client's number bounded."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.billing.estimates import MAX_INPUT_TOKENS, estimate, images, prompt_tokens
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import RateTable
from proxy.gemini.bodies import BodyFacts, Named

BOOK = PriceBook.load()


def rates(model: str) -> RateTable | None:
    return BOOK.rates_at(model, 1_795_000_000_000_000)


def facts_of(text_bytes: int = 100, **other: Any) -> BodyFacts:
    return BodyFacts(text_bytes=text_bytes, **other)


@pytest.mark.parametrize(
    ("model", "facts", "quantities"),
    [
        ("gemini-3.8-flash", facts_of(), {"input_text": 25, "output_text": 1024}),
        ("gemini-3.8-flash", facts_of(text_bytes=101), {"input_text": 26, "output_text": 1024}),
        ("gemini-3.8-flash", facts_of(max_output_tokens=64), {"input_text": 25, "output_text": 64}),
        ("gemini-3.8-flash", facts_of(max_output_tokens=65_536), {"input_text": 25, "output_text": 1024}),
        ("gemini-3.8-flash", facts_of(candidates=3), {"input_text": 25, "output_text": 3072}),
        (
            "gemini-3.8-flash",
            facts_of(inline_pictures=2),
            {"input_text": 25, "input_image": 516, "output_text": 1024},
        ),
        ("gemini-3-pro-image", facts_of(), {"input_text": 25, "output_image": 1120, "output_text": 400}),
        (
            "gemini-3-pro-image",
            facts_of(image_size="4K", inline_pictures=1),
            {"input_text": 25, "input_image": 560, "output_image": 2000, "output_text": 400},
        ),
        (
            "gemini-3.1-flash-lite-image",
            facts_of(inline_pictures=1),
            {"input_text": 25, "input_image": 1120, "output_image": 1120, "output_text": 400},
        ),
        (
            "gemini-3.1-flash-image-preview",
            facts_of(image_size="0.5K", candidates=2),
            {"input_text": 25, "output_image": 1494, "output_text": 400},
        ),
        ("gemini-9-unheard-of", facts_of(text_bytes=0), {"output_text": 1024}),
    ],
)
def test_an_estimate_by_kind_of_model(model: str, facts: BodyFacts, quantities: dict[str, int]) -> None:
    assert estimate(facts, "generateContent", rates(model)) == quantities
    assert estimate(facts, "streamGenerateContent", rates(model)) == quantities


@pytest.mark.parametrize("operation", ["embedContent", "batchEmbedContents"])
def test_embeddings_have_no_output(operation: str) -> None:
    facts = facts_of(text_bytes=4000, inline_pictures=1)
    assert estimate(facts, operation, rates("gemini-embedding-2")) == {"input_text": 1000, "input_image": 258}


def test_a_size_that_the_model_does_not_make_weighs_as_its_usual_one() -> None:
    facts = facts_of(image_size="64K")
    assert estimate(facts, "generateContent", rates("gemini-nano-banana-2.1"))["output_image"] == 1120
    assert estimate(facts, "generateContent", rates("gemini-2.5-flash-image"))["output_image"] == 1290


@pytest.mark.parametrize("candidates", [0, -5])
def test_a_count_of_candidates_that_makes_no_sense_is_one(candidates: int) -> None:
    facts = facts_of(candidates=candidates)
    assert estimate(facts, "generateContent", rates("gemini-nano-banana-2.1"))["output_image"] == 1120


def test_what_a_client_writes_does_not_make_an_estimate_without_a_bound() -> None:
    facts = facts_of(candidates=10**18, max_output_tokens=10**18)
    found = estimate(facts, "generateContent", rates("gemini-3.8-flash"))
    assert found["output_text"] == 8 * 1024


@pytest.mark.parametrize("most", [0, -1])
def test_a_cap_that_makes_no_sense_is_none(most: int) -> None:
    facts = facts_of(max_output_tokens=most)
    assert estimate(facts, "generateContent", rates("gemini-3.8-flash"))["output_text"] == 1024


@pytest.mark.parametrize("operation", ["generateContent", "batchEmbedContents"])
def test_every_estimate_of_a_model_in_the_book_has_a_price_above_zero(operation: str) -> None:
    for model in BOOK.models():
        quantities = estimate(facts_of(inline_pictures=1), operation, rates(model))
        if model.startswith("gemini-embedding"):
            quantities.pop("output_text", None)
        table = rates(model)
        assert table is not None
        priced = table.price(quantities)
        assert priced.cost is not None, model
        assert priced.cost > 0, model


def test_audio_video_and_documents_count_by_their_bytes() -> None:
    """32 tokens a second of audio at 128 kbit/s, and so on (docs/metering.md); none beyond the longest context."""
    facts = facts_of(audio_bytes=16_000, video_bytes=250_000, document_bytes=10**12)
    quantities = estimate(facts, "generateContent", None)
    assert (quantities["input_audio"], quantities["input_video"]) == (32, 300)
    assert quantities["input_document"] == MAX_INPUT_TOKENS
    assert prompt_tokens(quantities) == MAX_INPUT_TOKENS


def test_images_are_counted_where_images_are_made() -> None:
    """One a candidate for a model with a rate for images, one that is asked for a size, or one that is named for it."""
    two = facts_of(candidates=2)
    assert images(two, "priced", {"output_image": 2240}) == 2
    assert images(facts_of(image_size="2K"), "unpriced", {}) == 1
    assert images(two, "some-image-model", {}) == 2
    assert images(two, "Gemini-3.1-Flash-IMAGE", {}) == images(two, "Nano-Banana", {}) == 2
    assert images(facts_of(asks_images=True), "unpriced", {}) == 1
    assert images(two, "text", {"output_text": 5}) == 0
    assert images(facts_of(candidates=10**6), "some-image-model", {}) == 8


def test_the_compatibility_layer_is_estimated_by_what_it_is_charged_for() -> None:
    """Pictures by their number, which is bounded; embeddings have no output."""
    painter, chat = rates("gemini-3-pro-image"), rates("gemini-3.8-flash")
    for asked, pictures in ((1, 1), (0, 1), (4, 4), (10**9, 10)):
        named = Named("m", "m", False, False)
        facts = facts_of(candidates=asked, asks_images=True, named=named)
        found = estimate(facts, "openai.images.generations", painter)
        assert found == {"output_image": pictures * 1120}
        assert images(facts, "gemini-3-pro-image", found) == pictures
    assert estimate(facts_of(), "openai.embeddings", rates("gemini-embedding-001")) == {"input_text": 25}
    assert estimate(facts_of(), "openai.chat.completions", chat) == {"input_text": 25, "output_text": 1024}
