"""What a call costs: worked samples with rates typed by hand, names, dates, tiers, overrides, and exact arithmetic."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import UNPRICED, Priced

USD = 10**9
BOOK = "price book 2026-11-21"


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc, arg-type]


NOW = at(2026, 11, 21, 12)


def override(model: str, begins: date | None = None, **rates: str) -> SimpleNamespace:
    return SimpleNamespace(model=model, from_=begins, **{name: Decimal(rate) for name, rate in rates.items()})


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


def cost(book: PriceBook, model: str, when: int = NOW, tier: str | None = None, **quantities: int) -> Priced:
    table = book.table(model, model, model, tier, when)
    return UNPRICED if table is None else table.price(quantities)


def test_a_call_seen_at_google_costs_what_was_worked_out_by_hand(book: PriceBook) -> None:
    """prompt 2076, candidates 1332, thoughts 137, total 3545, IMAGE 1120: text out is 3545 - 2076 - 1120 = 349."""
    priced = cost(book, "gemini-3.1-flash-image", input_text=2076, output_image=1120, output_text=349)
    assert priced.cost == (2076 * 500 + 1120 * 60_000 + 349 * 3000)  # nano-dollars a token: $0.50, $60, $3 a million
    assert priced.cost == 69_285_000  # $0.069285
    assert priced == Priced(
        69_285_000,
        {
            "input_text": (2076, USD // 2),
            "output_image": (1120, 60 * USD),
            "output_text": (349, 3 * USD),
        },
        "gemini-3.1-flash-image",
        BOOK,
    )


@pytest.mark.parametrize(
    ("model", "quantities", "usd"),
    [
        # candidates 2340, IMAGE 2000, thoughts 337, no prompt given: a 4K image of 3-pro
        ("gemini-3-pro-image", {"output_image": 2000, "output_text": 677}, "0.248124"),
        # candidates 1150, IMAGE 1120, thoughts 300, prompt 12 + one picture of 258
        ("gemini-3.1-flash-image", {"input_text": 12, "input_image": 258, "output_image": 1120, "output_text": 330},
         "0.068325"),
        ("gemini-nano-banana-2.1", {"output_image": 1120}, "0.0336"),
        ("gemini-3.1-flash-lite-image", {"output_image": 1120}, "0.0336"),
        ("gemini-2.5-flash-image", {"output_image": 1290}, "0.0387"),
        ("gemini-embedding-2", {"input_text": 1000, "input_image": 1000, "input_audio": 1000, "input_video": 1000},
         "0.01915"),
        ("gemini-4-hydrogen", {"input_text": 1000, "cached_text": 1000, "output_text": 1000}, "0.009075"),
        ("gemini-3.8-live", {"input_text": 357, "input_audio": 165, "output_audio": 42, "output_text": 136},
         "0.00187875"),
        ("gemini-3.8-flash", {"search": 3}, "0.042"),
    ],
)  # fmt: skip
def test_worked_samples(book: PriceBook, model: str, quantities: dict[str, int], usd: str) -> None:
    assert cost(book, model, **quantities).cost == Decimal(usd) * USD


@pytest.mark.parametrize(
    ("model", "size", "tokens", "usd"),
    [
        ("gemini-nano-banana-2.1", None, 1120, "0.0336"),
        ("gemini-nano-banana-2.1", "2K", 1680, "0.0504"),
        ("gemini-nano-banana-2.1", "4K", 3780, "0.1134"),
        ("gemini-3.1-flash-image", "512", 747, "0.04482"),
        ("gemini-3.1-flash-image", "0.5K", 747, "0.04482"),
        ("gemini-3.1-flash-image", "1k", 1120, "0.0672"),
        ("gemini-3.1-flash-image-preview", "4K", 2520, "0.1512"),
        ("models/gemini-3-pro-image", "2K", 1120, "0.1344"),
        ("nano-banana-pro-preview", "4K", 2000, "0.24"),
        ("gemini-2.5-flash-image-preview", None, 1290, "0.0387"),
    ],
)
def test_an_image_of_each_size_has_its_published_tokens_and_price(
    book: PriceBook, model: str, size: str | None, tokens: int, usd: str
) -> None:
    table = book.rates_at(model, NOW)
    assert table is not None
    assert table.image_tokens(size) == tokens
    assert cost(book, model, output_image=tokens).cost == Decimal(usd) * USD


def test_sizes_that_a_model_does_not_make_have_no_tokens(book: PriceBook) -> None:
    for model, size in (
        ("gemini-3.1-flash-lite-image", "4K"),
        ("gemini-3-pro-image", "512"),
        ("gemini-3.8-flash", None),
    ):
        table = book.rates_at(model, NOW)
        assert table is not None
        assert table.image_tokens(size) is None


def test_which_models_make_images(book: PriceBook) -> None:
    for model, makes_images in (("gemini-3-pro-image-preview", True), ("gemini-3.8-flash", False)):
        table = book.rates_at(model, NOW)
        assert table is not None
        assert table.is_image_model == makes_images


@pytest.mark.parametrize(
    ("name", "priced_as"),
    [
        ("models/gemini-3.8-flash", "gemini-3.8-flash"),
        ("gemini-3.1-flash-image-preview", "gemini-3.1-flash-image"),
        ("gemini-3-pro-image-preview", "gemini-3-pro-image"),
        ("nano-banana-pro-preview", "gemini-3-pro-image"),
        ("gemini-2.5-flash-image-preview", "gemini-2.5-flash-image"),
        ("gemini-flash-latest", "gemini-3.8-flash"),
        ("gemini-pro-latest", "gemini-3.1-pro-preview"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
        ("gemini-2.5-flash-001", "gemini-2.5-flash"),
        ("gemini-embedding-001", "gemini-embedding-001"),
        ("gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
        ("gemini-embedding-2-preview", "gemini-embedding-2"),
    ],
)
def test_retired_and_alternative_names_are_priced_as_their_successors(
    book: PriceBook, name: str, priced_as: str
) -> None:
    assert cost(book, name, input_text=1).priced_as == priced_as


def test_a_model_that_google_routes_elsewhere_costs_what_its_successor_costs_from_that_day_on(book: PriceBook) -> None:
    before = cost(book, "gemini-3.5-flash", at(2026, 10, 8, 6, 59), input_text=10**6)
    after = cost(book, "gemini-3.5-flash", at(2026, 10, 8, 7), input_text=10**6)
    assert (before.priced_as, before.cost) == ("gemini-3.5-flash", 1_500_000_000)
    assert (after.priced_as, after.cost) == ("gemini-3.6-flash", 750_000_000)


@pytest.mark.parametrize("model", ["gemini-4-argon", "gemini-4-carbon"])
def test_gemini_4_doubles_at_midnight_in_los_angeles_on_1_december(book: PriceBook, model: str) -> None:
    tokens = {"input_text": 10**6, "cached_text": 10**6, "output_text": 10**6}
    midnight = at(2026, 12, 1, 8)
    assert cost(book, model, midnight - 1, **tokens).cost == 12_100_000_000
    assert cost(book, model, midnight, **tokens).cost == 24_200_000_000
    assert book.next_change(model, NOW) == midnight
    assert book.next_change(model, midnight) is None


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-3.7-flash", "gemini-3.6-flash"])
def test_flash_doubles_with_the_new_year(book: PriceBook, model: str) -> None:
    tokens = {"input_text": 10**6, "cached_text": 10**6, "output_text": 10**6}
    assert cost(book, model, at(2027, 1, 1, 7, 59), **tokens).cost == 4_575_000_000
    assert cost(book, model, at(2027, 1, 1, 8), **tokens).cost == 9_150_000_000


@pytest.mark.parametrize("day", [(2020, 1, 1), (2026, 11, 21), (2035, 1, 1)])
def test_a_model_has_a_price_before_its_first_and_after_its_last_date(
    book: PriceBook, day: tuple[int, int, int]
) -> None:
    assert cost(book, "gemini-4-argon", at(*day), output_text=1).cost is not None


@pytest.mark.parametrize(
    ("model", "tier", "usd"),
    [
        ("gemini-3-pro-image", "flex", {"input_text": "1", "output_text": "6", "output_image": "60"}),
        ("gemini-3-pro-image", "batch", {"input_text": "1", "output_text": "6", "output_image": "60"}),
        ("gemini-3-pro-image", "priority", {"input_text": "3.6", "output_text": "21.6", "search": "14000"}),
        ("gemini-nano-banana-2.1", "batch", {"input_text": "0.75", "output_text": "3.75", "output_image": "15"}),
        ("gemini-3.8-flash", "flex", {"input_text": "0.375", "cached_text": "0.0375", "search": "14000"}),
        ("gemini-3.8-flash", "priority", {"input_text": "1.35", "cached_text": "0.135", "output_text": "6.75"}),
        ("gemini-2.5-flash", "flex", {"input_text": "0.15", "cached_text": "0.03", "input_audio": "0.5"}),
        ("gemini-2.5-flash", "priority", {"input_text": "0.54", "cached_text": "0.054", "cached_audio": "0.18"}),
        ("gemini-3.5-flash-lite", "batch", {"input_text": "0.15", "cached_text": "0.02", "output_text": "1.25"}),
        ("gemini-3.5-flash-lite", "priority", {"input_text": "0.54", "cached_text": "0.05", "output_text": "4.5"}),
    ],
)
def test_rates_of_the_tiers(book: PriceBook, model: str, tier: str, usd: dict[str, str]) -> None:
    table = book.rates_at(model, NOW, tier)
    assert table is not None
    assert {name: table.rates[name] for name in usd} == {name: Decimal(rate) * USD for name, rate in usd.items()}


@pytest.mark.parametrize("tier", [None, "", "standard", "STANDARD", "SERVICE_TIER_UNSPECIFIED", "platinum"])
def test_no_tier_and_an_unknown_one_are_standard(book: PriceBook, tier: str | None) -> None:
    assert cost(book, "gemini-3.8-flash", tier=tier, output_text=1000).cost == 3_750_000


def test_a_tier_is_read_in_any_case(book: PriceBook) -> None:
    assert cost(book, "gemini-3.8-flash", tier="FLEX", output_text=1000).cost == 1_875_000


def test_a_long_prompt_moves_the_whole_call_to_the_long_rate(book: PriceBook) -> None:
    """More than 200,000 tokens, cached ones counted: not the tokens above alone, but all of them."""
    short = cost(book, "gemini-2.5-pro", input_text=100_000, cached_text=100_000, output_text=1000)
    long = cost(book, "gemini-2.5-pro", input_text=100_001, cached_text=100_000, output_text=1000)
    assert short.cost == 100_000 * 1250 + 100_000 * 125 + 1000 * 10_000
    assert long.cost == 100_001 * 2500 + 100_000 * 250 + 1000 * 15_000
    flex = cost(book, "gemini-3.1-pro-preview", tier="flex", input_text=200_001, output_text=1)
    assert flex.cost == 200_001 * 2000 + 9000


def test_output_does_not_make_a_prompt_long(book: PriceBook) -> None:
    assert cost(book, "gemini-2.5-pro", input_text=1, output_text=300_000).cost == 1250 + 300_000 * 10_000


def test_input_without_a_rate_of_its_own_costs_text(book: PriceBook) -> None:
    priced = cost(book, "gemini-3.8-flash", input_document=10, input_video=10, cached_image=10)
    assert priced.rates == {
        "input_document": (10, 750_000_000),
        "input_video": (10, 750_000_000),
        "cached_image": (10, 75_000_000),
    }


def test_cached_tokens_without_a_rate_cost_what_they_would_uncached(book: PriceBook) -> None:
    assert cost(book, "gemini-3-pro-image", cached_text=10, cached_image=10).cost == 20 * 2000
    assert cost(book, "gemini-embedding-2", cached_image=1000).cost == 450_000


def test_cached_audio_has_its_own_rate_where_it_is_published(book: PriceBook) -> None:
    assert cost(book, "gemini-2.5-flash", cached_audio=1000).cost == 100_000


def test_output_without_a_rate_leaves_the_cost_unknown_and_shows_the_rest(book: PriceBook) -> None:
    priced = cost(book, "gemini-3.8-flash", input_text=1000, output_image=1120)
    assert priced == Priced(None, {"input_text": (1000, 750_000_000)}, "gemini-3.8-flash", BOOK)


def test_a_quantity_that_nobody_knows_leaves_the_cost_unknown(book: PriceBook) -> None:
    assert cost(book, "gemini-3.8-flash", output_txt=1000).cost is None


def test_models_up_to_2_5_charge_grounding_once_a_call(book: PriceBook) -> None:
    assert cost(book, "gemini-2.5-flash", search=4).rates == {"search": (1, 35_000 * USD)}
    assert cost(book, "gemini-2.5-flash", search=4).cost == 35_000_000
    assert cost(book, "gemini-3.8-flash", search=4).cost == 4 * 14_000_000


def test_quantities_of_zero_leave_no_rate_and_cost_nothing(book: PriceBook) -> None:
    assert cost(book, "gemini-3.8-flash", input_text=0, output_image=0) == Priced(0, {}, "gemini-3.8-flash", BOOK)


def test_a_negative_quantity_is_an_error(book: PriceBook) -> None:
    with pytest.raises(ValueError, match="-1 output_text"):
        cost(book, "gemini-3.8-flash", output_text=-1)


def test_the_models_version_goes_before_the_model_and_the_model_before_what_was_asked(book: PriceBook) -> None:
    def priced_as(version: str | None, model: str, asked: str) -> str | None:
        table = book.table(version, model, asked, None, NOW)
        return table and table.model

    assert priced_as("gemini-3.8-flash", "gemini-3.1-pro-preview", "gemini-2.5-pro") == "gemini-3.8-flash"
    assert priced_as("banana-prod-7", "gemini-3.1-pro-preview", "gemini-2.5-pro") == "gemini-3.1-pro-preview"
    assert priced_as(None, "team-alias", "gemini-2.5-pro") == "gemini-2.5-pro"
    assert priced_as("x" * 10_000, "gemini-2.5-pro", "gemini-2.5-pro") == "gemini-2.5-pro"


def test_a_model_that_nobody_knows_has_no_price_never_zero(book: PriceBook) -> None:
    assert cost(book, "gemini-9-unheard-of", input_text=5) == Priced(None, {}, None, None)
    assert not book.knows("gemini-9-unheard-of")
    assert book.rates_at("gemini-9-unheard-of", NOW) is None
    assert book.assumptions("gemini-9-unheard-of") == {}


def test_what_the_book_lacks_is_priced_by_genai_prices_and_says_so(book: PriceBook) -> None:
    priced = cost(book, "gemini-3-flash-preview", input_text=1000, output_text=1000)
    assert (priced.cost, priced.priced_as) == (3_500_000, "gemini-3-flash-preview")
    assert priced.source is not None
    assert priced.source.startswith("genai-prices ")
    assert "A-GENAI-PRICES" in book.assumptions("gemini-3-flash-preview")


def test_tiers_hold_for_what_genai_prices_knows(book: PriceBook) -> None:
    """genai-prices itself prices flex and priority as standard."""
    assert cost(book, "gemini-3-flash-preview", tier="priority", output_text=1000).cost == 5_400_000


def test_an_override_stands_before_the_book_for_the_rates_it_names() -> None:
    book = PriceBook.load([override("gemini-3-pro-image", output_image="100.25")])
    image = cost(book, "gemini-3-pro-image", output_image=1000)
    assert (image.cost, image.source) == (100_250_000, "configuration")
    text = cost(book, "gemini-3-pro-image", output_text=1000)
    assert (text.cost, text.source) == (12_000_000, BOOK)
    assert cost(book, "gemini-3-pro-image", output_text=1, output_image=1).source == "configuration"
    assert cost(book, "gemini-3-pro-image-preview", output_image=1000).cost == 100_250_000


def test_an_override_holds_from_its_day_on_and_in_every_tier() -> None:
    book = PriceBook.load([override("gemini-3.8-flash", date(2026, 12, 24), output_text="5")])
    assert cost(book, "gemini-3.8-flash", at(2026, 12, 24, 7, 59), output_text=1000).cost == 3_750_000
    assert cost(book, "gemini-3.8-flash", at(2026, 12, 24, 8), output_text=1000).cost == 5_000_000
    assert cost(book, "gemini-3.8-flash", at(2027, 2, 1), output_text=1000).cost == 5_000_000
    assert cost(book, "gemini-3.8-flash", at(2027, 2, 1), tier="flex", output_text=1000).cost == 2_500_000
    assert book.next_change("gemini-3.8-flash", NOW) == at(2026, 12, 24, 8)


def test_an_override_of_text_is_an_override_of_what_falls_back_on_text() -> None:
    book = PriceBook.load([override("gemini-3-pro-image", input_text="1")])
    priced = cost(book, "gemini-3-pro-image", input_image=1000)
    assert (priced.cost, priced.source) == (1_000_000, "configuration")


def test_an_override_of_a_long_models_rate_holds_for_long_prompts_too() -> None:
    book = PriceBook.load([override("gemini-2.5-pro", input_text="1")])
    assert cost(book, "gemini-2.5-pro", input_text=300_000, output_text=1000).cost == 300_000_000 + 15_000_000


def test_an_id_goes_before_a_glob_and_a_later_day_before_an_earlier_one() -> None:
    book = PriceBook.load(
        [
            override("gemini-3.8-flash", output_text="3"),
            override("gemini-3.8-flash", date(2026, 11, 1), output_text="2"),
            override("gemini-*", output_text="1"),
        ]
    )
    assert cost(book, "gemini-3.8-flash", at(2026, 10, 1), output_text=1000).cost == 3_000_000
    assert cost(book, "gemini-3.8-flash", NOW, output_text=1000).cost == 2_000_000
    assert cost(book, "gemini-2.5-flash", NOW, output_text=1000).cost == 1_000_000


def test_an_override_gives_a_price_to_a_model_that_nobody_knows() -> None:
    book = PriceBook.load([override("tuned-banana", input_text="1", output_image="2", search_per_1000="3")])
    priced = cost(book, "tuned-banana", input_text=1000, output_image=1000, search=1)
    assert priced == Priced(
        6_000_000,
        {"input_text": (1000, USD), "output_image": (1000, 2 * USD), "search": (1, 3000 * USD)},
        "tuned-banana",
        "configuration",
    )
    assert "tuned-banana" in book.models()


def test_an_override_without_an_input_rate_makes_no_price_of_its_own() -> None:
    book = PriceBook.load([override("banana-*", output_image="2")])
    assert not book.knows("banana-prod-7")
    table = book.table("banana-prod-7", "gemini-3-pro-image", "x", None, NOW)
    assert table is not None
    assert table.price({"output_image": 1000}).cost == 120_000_000


def test_names_for_labels_are_the_books_its_aliases_and_configured_ids_but_no_globs() -> None:
    names = PriceBook.load([override("tuned-banana", input_text="1"), override("gemini-*", output_text="1")]).models()
    assert {"gemini-3-pro-image", "gemini-flash-latest", "tuned-banana"} <= set(names)
    assert "gemini-*" not in names
    assert len(names) == len(set(names)) < 100


def test_every_name_of_the_book_has_a_price(book: PriceBook) -> None:
    assert [name for name in book.models() if not book.knows(name)] == []


def test_no_tier_of_the_book_costs_a_fraction_of_a_nano_dollar_that_was_rounded_away(book: PriceBook) -> None:
    """Rates are integers; a multiple that isn't would be rounded in silence."""
    for name in book.models():
        standard = book.rates_at(name, NOW)
        assert standard is not None
        for tier, multiple in (("flex", Fraction(1, 2)), ("priority", Fraction(9, 5))):
            table = book.rates_at(name, NOW, tier)
            assert table is not None
            assert table.rates["input_text"] == standard.rates["input_text"] * multiple


_quantity = st.integers(0, 10**12)


@given(text=_quantity, cached=_quantity, output=_quantity, image=_quantity)
def test_a_cost_is_the_exact_sum_divided_once_half_to_even(text: int, cached: int, output: int, image: int) -> None:
    quantities = {"input_text": text, "cached_text": cached, "output_text": output, "output_image": image}
    priced = cost(_ODD_BOOK, "odd", **quantities)
    exact = sum((Fraction(quantity * rate, 10**6) for quantity, rate in priced.rates.values()), Fraction(0))
    assert priced.cost == round(exact)  # of a Fraction: exact, half to even


def _odd_book() -> PriceBook:
    """Rates of odd nano-dollars, so that sums don't divide."""
    odd: dict[str, Any] = {"input_text": "0.000000001", "cached_text": "0.0500005", "output_text": "1.1234567"}
    return PriceBook.load([override("odd", output_image="33.333333333", **odd)])


_ODD_BOOK = _odd_book()
