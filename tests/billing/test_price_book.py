"""The price book's file and the configuration's rates: read exactly, refused with a reason, and documented."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.billing import price_book
from proxy.billing.book_files import read_book
from proxy.billing.price_book import LATER_NAMES, PER_1000, RATE_NAMES, nano_dollars, read_overrides, starts
from proxy.billing.prices import PriceBook

BOOK = read_book()


@pytest.mark.parametrize(
    ("usd", "nanos"),
    [("1.50", 1_500_000_000), (0.075, 75_000_000), (30, 30_000_000_000), (Decimal("0.000000001"), 1), ("0", 0)],
)
def test_dollars_are_read_exactly(usd: object, nanos: int) -> None:
    assert nano_dollars(usd) == nanos


@pytest.mark.parametrize(
    ("usd", "reason"),
    [
        ("-1", "zero or more"),
        ("NaN", "not a rate"),
        ("Infinity", "not a rate"),
        ("1,50", "write it as 1.50"),
        ("", "write it as"),
        ("0.0000000001", "nine decimal places"),
    ],
)
def test_what_is_no_rate_is_refused_with_the_reason(usd: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        nano_dollars(usd)


def test_a_bad_override_is_named() -> None:
    with pytest.raises(ValueError, match=r'model = "gemini-3-pro-image": -2 is not a rate'):
        read_overrides([SimpleNamespace(model="gemini-3-pro-image", from_=None, output_image=-2)])


def test_a_day_begins_at_midnight_in_los_angeles_summer_or_winter() -> None:
    assert starts(date(2026, 12, 1)) == datetime(2026, 12, 1, 8, tzinfo=UTC).timestamp() * 1_000_000
    assert starts(date(2026, 7, 1)) == datetime(2026, 7, 1, 7, tzinfo=UTC).timestamp() * 1_000_000


def test_a_moment_with_a_time_zone_is_that_moment_and_no_day_is_always() -> None:
    assert starts(datetime(2026, 12, 1, tzinfo=UTC)) == datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1_000_000
    assert starts(None) == 0


def test_every_model_has_text_input_and_periods_in_order() -> None:
    for model in BOOK.models.values():
        moments = [period.since for period in model.periods]
        assert moments[0] == 0, f"{model.id}: the first row always held and has no date"
        assert moments == sorted(set(moments)), model.id
        by_the_second = model.id.startswith("veo-")
        assert all(("input_text" in period.standard) != by_the_second for period in model.periods), model.id


def test_a_later_period_names_every_rate_that_an_earlier_one_has() -> None:
    """A row stands alone: a rate left out of it would be lost from its day on."""
    for model in BOOK.models.values():
        for earlier, later in zip(model.periods, model.periods[1:], strict=False):
            assert earlier.standard.keys() == later.standard.keys(), model.id


def test_image_models_and_only_they_have_sizes() -> None:
    for model in BOOK.models.values():
        assert bool(model.images) == ("output_image" in model.periods[0].standard), model.id


def test_every_alias_leads_to_a_model_and_every_entry_names_its_sources() -> None:
    assert {alias.model for alias in BOOK.aliases.values()} <= BOOK.models.keys()
    assert [model.id for model in BOOK.models.values() if not model.sources] == []


def test_the_file_holds_no_word_that_is_not_read() -> None:
    """A misspelt rate would be no rate at all."""
    text = Path(price_book.__file__).with_name("price_book.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text)
    rates = {PER_1000.get(name, name) for name in (*RATE_NAMES, *LATER_NAMES)}
    tiers = {"flex", "batch", "priority"}
    fields = {"id", "note", "images", "picture", "sources", "assumptions", "prices", "cached_by_tier"}
    for model in raw["models"]:
        assert model.keys() <= fields | {"long_above", "search_per", "input_token_limit", "output_token_limit"}, model[
            "id"
        ]
        for row in model["prices"]:
            assert row.keys() <= rates | tiers | {"from", "long"}, model["id"]
            assert all(row[table].keys() <= rates for table in (tiers | {"long"}) & row.keys()), model["id"]
            assert ("long" in row) == ("long_above" in model), model["id"]


def test_assumptions_that_models_name_are_in_the_book() -> None:
    named = {name for model in BOOK.models.values() for name in model.assumptions}
    listed = {name for name, assumption in BOOK.assumptions.items() if assumption.applies == "listed"}
    assert named == listed


def test_every_assumption_is_shown_of_some_model_and_of_none_that_it_does_not_touch() -> None:
    book = PriceBook.of(None)
    shown = {name: book.assumptions(name).keys() for name in book.names()}
    assert set().union(*shown.values()) == BOOK.assumptions.keys()
    assert {"A-IMAGE-REST-IS-TEXT", "A-DRAFTS-BY-TOKENS", "E-IMAGE"} <= shown["gemini-3-pro-image"]
    assert {"E-TEXT-OUTPUT", "A-LONG-PROMPT"}.isdisjoint(shown["gemini-3-pro-image"])
    assert {"E-TEXT-OUTPUT", "A-LONG-PROMPT", "A-SEARCH-PER-PROMPT"} <= shown["gemini-2.5-pro"]
    assert {"E-IMAGE", "A-SEARCH-PER-QUERY", "A-GEMINI-4-ALIKE"}.isdisjoint(shown["gemini-2.5-pro"])
    assert {"E-TEXT-OUTPUT", "A-SEARCHES-REPEAT"}.isdisjoint(shown["gemini-embedding-2"])
    assert "A-GEMINI-4-ALIKE" in shown["gemini-4-carbon"]
    assert "A-AUTO-ROUTED" in shown["gemini-3.7-flash"]
    assert "A-GENAI-PRICES" in shown["gemini-3-flash-preview"]
    assert "A-VIDEO-BY-THE-SECOND" in shown["veo-3.1-generate"]
