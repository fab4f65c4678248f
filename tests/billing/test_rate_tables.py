"""The table of rates that calls are charged at: every gap filled by rule, or left open."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.price_book import Model, Override, Period
from proxy.billing.rate_tables import RateTable, build, divide_half_even

MODEL = Model(
    "m",
    "book",
    (
        Period(0, {"input_text": 100, "cached_text": 10, "input_audio": 300, "output_text": 500, "search": 7000}),
        Period(1000, {"input_text": 200, "output_text": 1000}, long={"input_text": 400}),
    ),
    long_above=10,
)


def table(
    *overrides: Override, model: Model | None = MODEL, tier: str = "standard", multiple: str = "1", at: int = 0
) -> RateTable:
    found = build("m", model, overrides, tier, Decimal(multiple), at)
    assert found is not None
    return found


def test_what_has_no_rate_of_its_own_names_the_rate_that_it_has() -> None:
    found = table()
    assert found.fallbacks == {
        "input_image": "input_text",
        "input_video": "input_text",
        "input_document": "input_text",
        "cached_image": "cached_text",
        "cached_audio": "cached_text",
        "cached_video": "cached_text",
        "cached_document": "cached_text",
    }
    assert found.rates["input_image"] == 100
    assert "output_image" not in found.rates


def test_cached_without_any_cached_rate_is_the_input_of_its_modality() -> None:
    found = table(model=Model("m", "book", (Period(0, {"input_text": 100, "input_audio": 300}),)))
    assert (found.rates["cached_text"], found.rates["cached_audio"], found.rates["cached_image"]) == (100, 300, 100)


def test_a_period_holds_from_its_moment_on() -> None:
    assert table(at=999).rates["input_text"] == 100
    assert table(at=1000).rates["input_text"] == 200


def test_long_rates_are_the_standard_ones_but_for_those_that_differ() -> None:
    found = table(at=1000)
    assert (found.long_rates["input_text"], found.long_rates["output_text"]) == (400, 1000)
    assert found.long_rates["input_image"] == 400
    assert found.rates["input_image"] == 200


def test_a_cheaper_tier_leaves_searches_and_cached_tokens_alone() -> None:
    found = table(tier="flex", multiple="0.5")
    assert (found.rates["input_text"], found.rates["cached_text"], found.rates["search"]) == (50, 10, 7000)
    assert table(tier="flex", multiple="0.5", model=MODEL._replace(cached_by_tier=True)).rates["cached_text"] == 5


def test_a_dearer_tier_leaves_only_searches_alone() -> None:
    found = table(tier="priority", multiple="1.8")
    assert (found.rates["input_text"], found.rates["cached_text"], found.rates["search"]) == (180, 18, 7000)


def test_a_rate_that_a_tier_sets_itself_goes_before_the_multiple_and_an_override_before_both() -> None:
    model = Model("m", "book", (Period(0, {"input_text": 100}, tiers={"flex": {"input_text": 30}}),))
    assert table(model=model, tier="flex", multiple="0.5").rates["input_text"] == 30
    override = Override("m", 0, {"input_text": 80})
    assert table(override, model=model, tier="flex", multiple="0.5").rates["input_text"] == 40


def test_what_the_configuration_sets_is_marked_fallbacks_too() -> None:
    found = table(Override("*", 0, {"cached_text": 1}))
    assert found.configured == {"cached_text", "cached_image", "cached_audio", "cached_video", "cached_document"}


def test_no_entry_and_no_override_with_an_input_rate_is_no_table() -> None:
    assert build("m", None, (Override("m", 0, {"output_text": 1}),), "standard", Decimal(1), 0) is None
    assert build("m", None, (Override("m", 5, {"input_text": 1}),), "standard", Decimal(1), 4) is None
    assert build("m", None, (Override("m", 5, {"input_text": 1}),), "standard", Decimal(1), 5) is not None


@given(st.integers(0, 10**30))
def test_dividing_by_a_million_is_half_to_even(total: int) -> None:
    assert divide_half_even(total) == round(Fraction(total, 10**6))


@pytest.mark.parametrize(("total", "nanos"), [(500_000, 0), (500_001, 1), (1_500_000, 2), (2_500_000, 2), (0, 0)])
def test_halves_go_to_the_even_neighbour(total: int, nanos: int) -> None:
    assert divide_half_even(total) == nanos
