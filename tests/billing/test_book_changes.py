"""What another price book would change is told in full: no more and no less, and from when on."""

from __future__ import annotations

from datetime import UTC, date, datetime
from importlib.resources import files

from proxy.billing import taken_book
from proxy.billing.book_changes import Change, compare
from proxy.billing.prices import PriceBook

TOML = files("proxy.billing").joinpath("price_book.toml").read_text(encoding="utf-8")
OURS = PriceBook.of(None)
DECEMBER = int(datetime(2026, 12, 1, 8, tzinfo=UTC).timestamp()) * 1_000_000
OCTOBER = int(datetime(2026, 10, 8, 7, tzinfo=UTC).timestamp()) * 1_000_000


def changed(was: str, becomes: str, count: int = 1) -> list[Change]:
    """What differs where a line of our book is replaced, once."""
    assert TOML.count(was) >= 1
    text = TOML.replace(was, becomes, count)
    return compare(OURS, PriceBook.of(taken_book.take(text.encode(), "x", date(2026, 12, 5))))


def test_the_same_book_changes_nothing() -> None:
    assert compare(OURS, PriceBook.of(None)) == []
    assert changed("version = 2026-11-21", "version = 2026-12-05") == []


def test_a_rate_is_told_in_each_tier_that_follows_from_it() -> None:
    assert changed("output_image = 120,", "output_image = 110.5,") == [
        Change("gemini-3-pro-image", "output_image", "standard", 0, "120", "110.5"),
        Change("gemini-3-pro-image", "output_image", "flex", 0, "60", "55.25"),
        Change("gemini-3-pro-image", "output_image", "batch", 0, "60", "55.25"),
        Change("gemini-3-pro-image", "output_image", "priority", 0, "216", "198.9"),
    ]


def test_a_change_to_come_is_told_from_its_day_on() -> None:
    found = changed(
        "input_text = 4, cached_text = 0.20, output_text = 20", "input_text = 4, cached_text = 0.20, output_text = 25"
    )
    assert [(each.tier, each.since, each.was, each.becomes) for each in found] == [
        ("standard", DECEMBER, "20", "25"),
        ("flex", DECEMBER, "10", "12.5"),
        ("batch", DECEMBER, "10", "12.5"),
        ("priority", DECEMBER, "36", "45"),
    ]


def test_a_rate_that_changes_differently_is_told_for_each_time() -> None:
    found = changed(
        "{ input_text = 2, cached_text = 0.10, output_text = 10",
        "{ input_text = 2, cached_text = 0.10, output_text = 20",
    )
    assert [(each.since, each.was, each.becomes) for each in found if each.tier == "standard"] == [(0, "10", "20")]


def test_sizes_rules_and_long_rates_are_told_too() -> None:
    assert changed('"4K" = 2000', '"4K" = 2100') == [
        Change("gemini-3-pro-image", "tokens of 4K", "standard", 0, "2000", "2100")
    ]
    assert Change("gemini-3.1-pro-preview", "long_above", "standard", 0, "200000", "100000") in changed(
        "long_above = 200_000", "long_above = 100_000"
    )
    long = [each for each in changed("output_text = 18 }", "output_text = 19 }") if each.tier == "standard"]
    assert long == [Change("gemini-3.1-pro-preview", "long output_text", "standard", 0, "18", "19")]


def test_a_model_that_comes_or_goes_is_told_with_all_its_figures() -> None:
    text = TOML.replace('id = "gemini-4-hydrogen"', 'id = "gemini-4-helium"')
    book = PriceBook.of(taken_book.take(text.encode(), "x", date(2026, 12, 5)))
    found = compare(OURS, book)
    assert {each.model for each in found} == {"gemini-4-hydrogen", "gemini-4-helium"}
    assert Change("gemini-4-hydrogen", "output_text", "standard", 0, "7.5", None) in found
    assert Change("gemini-4-helium", "output_text", "standard", 0, None, "7.5") in found


def test_another_name_is_told_by_where_it_leads() -> None:
    assert changed(
        'model = "gemini-3.6-flash"\nfrom = 2026-10-08', 'model = "gemini-3.8-flash"\nfrom = 2026-10-08'
    ) == [Change("gemini-3.5-flash", "priced as", "standard", OCTOBER, "gemini-3.6-flash", "gemini-3.8-flash")]
