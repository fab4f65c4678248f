"""What a call costs at most: worked out by hand from the price book's rates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.billing.holds import Unbounded, worst
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import RateTable
from proxy.billing.records import from_usd
from proxy.gemini.bounds import Bounds

AT = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp()) * 1_000_000
BOOK = PriceBook.load()


def table(model: str, tier: str | None = None) -> RateTable:
    found = BOOK.rates_at(model, AT, tier)
    assert found is not None
    return found


def bounds(**changes: Any) -> Bounds:
    values: dict[str, Any] = {
        "text_bytes": 0, "pictures": 0, "unbounded_input": False, "searches": False, "asks_tier": False,
        "candidates": 1, "max_output_tokens": None,
    }  # fmt: skip
    return Bounds(**values | changes)


@pytest.mark.parametrize(
    ("model", "asked", "usd"),
    [
        # 1,000 bytes at 2 USD a million, 1,400 tokens at 120
        ("gemini-3-pro-image", {"text_bytes": 1000, "max_output_tokens": 1400}, "0.17"),
        # a picture of 1,120 tokens is never cut, and before it there may be 10 of text at 12
        ("gemini-3-pro-image", {"max_output_tokens": 10}, "0.13452"),
        # 32,768 tokens at 120
        ("gemini-3-pro-image", {}, "3.93216"),
        ("gemini-3-pro-image", {"max_output_tokens": 1400, "candidates": 2}, "0.336"),
        # 2 pictures of 2,240 at 2
        ("gemini-3-pro-image", {"pictures": 2, "max_output_tokens": 1120}, "0.14336"),
        # all of its context: 65,536 at 2
        ("gemini-3-pro-image", {"unbounded_input": True, "max_output_tokens": 1120}, "0.265472"),
        # 100 at 0.75, and 65,536 at 3.75
        ("gemini-3.8-flash", {"text_bytes": 100}, "0.245835"),
        ("gemini-3.8-flash", {"text_bytes": 100, "max_output_tokens": 200}, "0.000825"),
        # a prompt beyond 200,000 tokens moves all to the long rates: 250,000 at 4, 100 at 18
        ("gemini-3.1-pro-preview", {"text_bytes": 250_000, "max_output_tokens": 100}, "1.0018"),
        # audio is the dearest that a context of 1,048,576 may hold: at 1
        ("gemini-2.5-flash", {"unbounded_input": True, "max_output_tokens": 100}, "1.048826"),
        # searches of 2.5 are charged once a call: 35 and, of Maps, 25 a thousand
        ("gemini-2.5-flash", {"searches": True, "max_output_tokens": 100}, "0.06025"),
        ("gemini-embedding-001", {"text_bytes": 1000}, "0.00015"),
    ],
)
def test_it_is_every_byte_a_token_and_the_longest_answer_of_the_dearest_kind(
    model: str, asked: dict[str, Any], usd: str
) -> None:
    operation = "embedContent" if "embedding" in model else "generateContent"
    assert worst(bounds(**asked), operation, table(model), None) == from_usd(usd)


def test_a_picture_of_4k_weighs_more_than_the_cap() -> None:
    """2,000 tokens at 120, and before them 1,400 at 12."""
    asked = bounds(max_output_tokens=1400)
    assert worst(asked, "generateContent", table("gemini-3-pro-image"), "4K") == from_usd("0.2568")


def test_a_picture_of_a_size_that_nobody_knows_is_the_largest() -> None:
    """2,000 tokens at 120; and of a model of whose pictures nothing is known, 3,780; with 1,400 at 12 either time."""
    asked, known = bounds(max_output_tokens=1400, any_size=True), table("gemini-3-pro-image")
    assert worst(asked, "generateContent", known, "512") == from_usd("0.2568")
    assert worst(asked, "generateContent", known._replace(images={}), None) == from_usd("0.4704")
    assert max(tokens for name in BOOK.models() for tokens in table(name).images.values()) == 3780


def test_the_dearest_tier_costs_its_multiple() -> None:
    asked = bounds(text_bytes=1000, max_output_tokens=1400)
    assert worst(asked, "generateContent", table("gemini-3-pro-image", "priority"), None) == from_usd("0.306")


def test_searches_that_are_charged_by_the_query_have_no_bound() -> None:
    with pytest.raises(Unbounded, match="each query is charged"):
        worst(bounds(searches=True, max_output_tokens=1), "generateContent", table("gemini-3.8-flash"), None)


@pytest.mark.parametrize(("asked", "pictures"), [(1, 1), (0, 1), (3, 3), (50, 50)])
def test_a_picture_of_the_compatibility_layer_is_held_as_it_is_charged(asked: int, pictures: int) -> None:
    """As many as are asked for, whatever that number is: 1,120 tokens at 120 USD a million each."""
    held = worst(
        bounds(text_bytes=10**6, candidates=asked), "openai.images.generations", table("gemini-3-pro-image"), None
    )
    assert held == pictures * 1120 * 120_000


def test_the_compatibility_layer_is_held_like_the_native_surface() -> None:
    chat, embeddings = bounds(text_bytes=100, max_output_tokens=200), bounds(text_bytes=1000)
    assert worst(chat, "openai.chat.completions", table("gemini-3.8-flash"), None) == from_usd("0.000825")
    assert worst(embeddings, "openai.embeddings", table("gemini-embedding-001"), None) == from_usd("0.00015")
