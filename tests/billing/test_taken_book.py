"""A price book that was taken: ours in either notation, or genai-prices' data over ours; kept, and given back."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from proxy.billing import taken_book
from proxy.billing.assumptions import ASSUMPTIONS
from proxy.billing.book_files import read_book
from proxy.billing.genai_rates import read_genai_prices
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import RateTable

TOML = files("proxy.billing").joinpath("price_book.toml").read_text(encoding="utf-8")
TODAY = date(2026, 12, 5)
DAY = 86_400_000_000
NOW = int(datetime(2026, 12, 5, 20, tzinfo=UTC).timestamp()) * 1_000_000


def provider(*models: dict[str, Any]) -> bytes:
    """genai-prices' data as it is published: providers, Google's among them."""
    other = {"id": "other", "name": "Other", "api_pattern": "x", "models": []}
    google = {"id": "google", "name": "Google", "api_pattern": "https://google", "models": list(models)}
    return json.dumps([other, google]).encode()


def model(name: str, prices: Any) -> dict[str, Any]:
    return {"id": name, "match": {"or": [{"equals": name}, {"starts_with": f"{name}-exp"}]}, "prices": prices}


def rates(book: PriceBook, name: str, at: int = NOW, tier: str = "standard") -> RateTable:
    table = book.rates_at(name, at, tier)
    assert table is not None
    return table


def test_a_newer_book_of_ours_stands_in_place_of_the_packages_and_names_itself() -> None:
    newer = TOML.replace("version = 2026-11-21", "version = 2026-12-05").replace(
        "output_image = 120,", "output_image = 110,"
    )
    book = PriceBook.of(taken_book.take(newer.encode(), "new.toml", TODAY))
    table = rates(book, "gemini-3-pro-image")
    assert (table.rates["output_image"], table.source) == (110_000_000_000, "price book 2026-12-05")
    assert book.source == "price book 2026-12-05"
    assert rates(book, "gemini-3-flash-preview").source.startswith("genai-prices 0.2.3")


def test_what_genai_prices_says_goes_before_our_book_and_what_it_does_not_say_stays() -> None:
    data = provider(
        model("gemini-3-pro-image", {"input_mtok": 2, "output_mtok": 12, "output_image_mtok": 100.5}),
        model("gemini-5-neon", {"input_mtok": 0.075, "output_mtok": 3}),
    )
    book = PriceBook.of(taken_book.take(data, "data.json", TODAY))
    image = rates(book, "gemini-3-pro-image")
    assert image.rates["output_image"] == 100_500_000_000
    assert image.rates["search"] == 14_000_000_000_000
    assert image.image_tokens("4K") == 2000
    assert image.source == "genai-prices 2026-12-05"
    assert rates(book, "gemini-3-pro-image", tier="batch").rates["output_image"] == 50_250_000_000
    new = rates(book, "gemini-5-neon-exp-7")
    assert (new.rates["input_text"], new.source) == (75_000_000, "genai-prices 2026-12-05")
    assert rates(book, "gemini-4-argon").source == "price book 2026-11-21"
    assert book.source == "price book 2026-11-21 with genai-prices 2026-12-05"


def test_a_change_that_was_put_off_is_put_off() -> None:
    """Our book has gemini-4-argon double on 2026-12-01; newer data has it double on 2027-03-01."""
    cheap = {"input_mtok": 2, "cache_read_mtok": 0.1, "output_mtok": 10, "web_searches_kcount": 14}
    dear = {"input_mtok": 4, "cache_read_mtok": 0.2, "output_mtok": 20, "web_searches_kcount": 14}
    later = {"constraint": {"start_date": "2027-03-01"}, "prices": dear}
    data = provider(model("gemini-4-argon", [{"prices": cheap}, later]))
    book = PriceBook.of(taken_book.take(data, "data.json", TODAY))
    assert rates(book, "gemini-4-argon", NOW).rates["output_text"] == 10_000_000_000
    assert rates(book, "gemini-4-argon", NOW + 100 * DAY).rates["output_text"] == 20_000_000_000


def test_a_tiers_own_rate_falls_where_the_standard_rate_of_it_is_another() -> None:
    data = provider(model("gemini-3.5-flash-lite", {"input_mtok": 0.3, "cache_read_mtok": 0.06, "output_mtok": 2.5}))
    book = PriceBook.of(taken_book.take(data, "data.json", TODAY))
    assert rates(PriceBook.of(None), "gemini-3.5-flash-lite", tier="flex").rates["cached_text"] == 20_000_000
    assert rates(book, "gemini-3.5-flash-lite", tier="flex").rates["cached_text"] == 30_000_000


def test_the_genai_prices_that_is_installed_would_change_nothing_of_our_book() -> None:
    others = read_genai_prices()
    for name, entry in read_book().models.items():
        assert taken_book._overlaid(entry, others) is entry, name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not in the form of a price book"),
        (b"\xff\xfe", "neither JSON nor TOML"),
        (b"{", "neither JSON nor TOML"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "Google among them"),
        (b'[{"id": "google"}]', "not in the form of genai-prices' data"),
        (provider(), "no price of any"),
        (provider(model("gemini-5", {"input_mtok": -1})), "not a rate"),
        (provider(model("gemini-5", {"input_mtok": 1001})), "input_text of gemini-5 is more than 1,000 USD"),
        (provider(model("gemini-5", {"input_mtok": "1e-12"})), "finer than a nano-dollar"),
        (provider({"id": "gemini-5", "prices": {"input_mtok": 1}}), "not in the form of genai-prices' data"),
        (TOML.replace("output_image = 120,", "output_image = -120,").encode(), "gemini-3-pro-image"),
    ],
)
def test_what_is_not_wholly_right_is_not_taken(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        taken_book.take(text, "x", TODAY)


@pytest.mark.parametrize("text", [TOML.encode(), provider(model("gemini-5", {"input_mtok": 0.1}))])
def test_what_was_taken_is_the_same_when_it_is_read_again(tmp_path: Path, text: bytes) -> None:
    taken = taken_book.take(text, "somewhere", TODAY)
    file = tmp_path / "data" / "prices.json"
    taken_book.keep(file, taken)
    again = taken_book.read(file)
    assert again is not None
    assert again[0] == taken
    assert again[1][0] == taken_book.books(taken)[0]
    assert file.stat().st_mode & 0o777 == 0o600


def test_given_back_it_is_the_packages_book_again(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    taken_book.keep(file, taken_book.take(TOML.encode(), "x", TODAY))
    taken_book.keep(file, None)
    taken_book.keep(file, None)
    assert taken_book.read(file) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "[]", "{}", '{"form": "price book", "day": "2026-12-05", "origin": "x", "data": 3}']
)
def test_a_file_that_was_spoilt_is_named_with_the_way_back(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"prices\.json can't be used: .*`weighbridge prices update --builtin`"):
        PriceBook.load((), file)


def test_a_book_may_bring_assumptions_of_its_own_and_does_not_reword_the_programs() -> None:
    rows = (("A-THOUGHTS-ARE-TEXT", "They are free."), ("A-NEW-ONE", "Something is so."))
    own = "".join(f'[[assumptions]]\nname = "{name}"\napplies = "all"\nsays = "{says}"\n' for name, says in rows)
    shown = PriceBook.of(taken_book.take((TOML + own).encode(), "x", TODAY)).assumptions("gemini-3.8-flash")
    assert shown["A-NEW-ONE"] == "Something is so."
    assert shown["A-THOUGHTS-ARE-TEXT"] == ASSUMPTIONS["A-THOUGHTS-ARE-TEXT"].says


def test_a_taken_book_that_the_program_has_overtaken_is_told() -> None:
    older = taken_book.take(TOML.replace("version = 2026-11-21", "version = 2026-11-01").encode(), "x", TODAY)
    assert "price book 2026-11-01, taken from x, is older than price book 2026-11-21" in str(taken_book.outdated(older))
    assert taken_book.outdated(taken_book.take(TOML.encode(), "x", TODAY)) is None
    assert taken_book.outdated(None) is None
