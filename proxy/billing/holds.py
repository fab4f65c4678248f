"""What a call can cost at most: what budgets hold of it where they must not be overrun (`limits.hold = "worst"`)."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.billing.estimates import EMBEDS, MAX_CANDIDATES, picture_tokens
from proxy.billing.price_book import PER_1000
from proxy.billing.rate_tables import RateTable, divide_half_even
from proxy.gemini import openai_bodies
from proxy.gemini.bounds import Bounds

INPUT_TOKEN_LIMIT = 1 << 20
"""W-CONTEXT. The longest prompt that any model takes, for those of which the book says nothing."""

OUTPUT_TOKEN_LIMIT = 1 << 16
"""W-OUTPUT. The most that any model answers, thinking included, likewise."""

PICTURE_TOKENS = 2240
"""W-PICTURE. A picture in the highest resolution that can be asked for
(https://ai.google.dev/gemini-api/docs/media-resolution)."""


MADE_PICTURE_TOKENS = 3780
"""W-OUTPUT. The largest picture that any model makes, likewise."""


class Unbounded(Exception):
    """Nothing bounds what a call may cost. Its text says what would."""


def worst(bounds: Bounds, operation_name: str, table: RateTable, image_size: str | None) -> int:
    """Nano-dollars that a call costs at most, whatever its answer is, at the rates of `table`.

    A byte of text is a token at most (W-TEXT). What else is in the prompt counts as the model's whole context. The
    answer is as long as `maxOutputTokens` allows, and of its dearest kind; a picture is never cut, whatever was said
    before it (W-OUTPUT).

    Raises Unbounded where searches are charged by the query, of which a call may make any number.
    """
    if operation_name == openai_bodies.PICTURES:
        return divide_half_even(max(bounds.candidates, 1) * picture_tokens(table) * table.rates.get("output_image", 0))
    limit = table.input_token_limit or INPUT_TOKEN_LIMIT
    prompt = limit if bounds.unbounded_input else bounds.text_bytes + bounds.pictures * PICTURE_TOKENS
    rates = table.rates if table.long_above is None or prompt <= table.long_above else table.long_rates
    inputs = {name: rate for name, rate in rates.items() if name.startswith(("input_", "cached_"))}
    dearest = max(inputs.values())
    if prompt >= limit:
        cost = limit * dearest
    else:
        cost = bounds.text_bytes * inputs["input_text"] + bounds.pictures * PICTURE_TOKENS * inputs["input_image"]
    if operation_name not in EMBEDS:
        cost += _output(bounds, table, image_size, {n: rate for n, rate in rates.items() if n.startswith("output_")})
    return divide_half_even(cost + _searches(bounds, table))


def _output(bounds: Bounds, table: RateTable, image_size: str | None, rates: Mapping[str, int]) -> int:
    limit = table.output_token_limit or OUTPUT_TOKEN_LIMIT
    asked = bounds.max_output_tokens
    tokens = limit if asked is None or asked <= 0 else min(asked, limit)
    each = tokens * max(rates.values(), default=0)
    if table.is_image_model:
        picture = None if bounds.any_size else table.image_tokens(image_size)
        picture = picture or max(table.images.values(), default=MADE_PICTURE_TOKENS)
        if picture > tokens:
            each = max(each, picture * rates["output_image"] + tokens * rates.get("output_text", 0))
    return each * min(max(bounds.candidates, 1), MAX_CANDIDATES)


def _searches(bounds: Bounds, table: RateTable) -> int:
    if not bounds.searches:
        return 0
    if table.search_per == "query":
        raise Unbounded(
            "It may search any number of times, and each query is charged: leave Google Search and Maps out of it."
        )
    return sum(table.rates.get(name, 0) for name in PER_1000)
