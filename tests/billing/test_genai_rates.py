"""Our book beside genai-prices' data: every difference has its reason here, and what we take of it is taken rightly."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import data

from proxy.billing.book_files import read_book
from proxy.billing.genai_rates import GENAI_NAMES, read_genai_prices
from proxy.billing.price_book import Model, nano_dollars
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import RateTable

MOMENTS = tuple(
    int(datetime(*day, 20, tzinfo=UTC).timestamp()) * 1_000_000
    for day in ((2026, 9, 1), (2026, 11, 21), (2026, 12, 1), (2027, 1, 1))
)

NO_PRICE_THERE = "genai-prices 0.2.3 doesn't have the model"
NO_SECONDS = "genai-prices has no unit for seconds of video, and no Veo"
ROUTED = "genai-prices prices the name; we price who answers since 2026-10-08"

DIFFERENCES = {
    ("gemini-4-carbon", "model"): NO_PRICE_THERE,
    ("gemini-4-hydrogen", "model"): NO_PRICE_THERE,
    ("nano-banana-pro-preview", "model"): "genai-prices doesn't have the name",
    ("gemini-3.1-pro", "model"): "genai-prices doesn't have the name, which stands in Google's quota errors only",
    ("veo-3.1-generate", "model"): NO_SECONDS,
    ("veo-3.1-fast-generate", "model"): NO_SECONDS,
    ("veo-3.1-lite-generate", "model"): NO_SECONDS,
    ("gemini-3.5-flash", "input_text"): ROUTED,
    ("gemini-3.5-flash", "cached_text"): ROUTED,
    ("gemini-3.5-flash", "output_text"): ROUTED,
}
"""(name, rate) → why our book and genai-prices don't say the same."""

WITHOUT_UNIT = {
    "maps": "genai-prices has no unit for look-ups of places",
    "cache_storage": "its comments name the rate, and say that it has no unit for it",
}
"""rate → why genai-prices has it for no model."""


def _compare() -> set[tuple[str, str]]:
    book, ours = read_book(), PriceBook(read_book())
    theirs = PriceBook(read_book()._replace(models={}, aliases={}), (), read_genai_prices())
    found = set()
    for name in (*book.models, *book.aliases):
        for moment in MOMENTS:
            our, their = ours.rates_at(name, moment), theirs.rates_at(name, moment)
            assert our is not None
            if their is None:
                found.add((name, "model"))
                continue
            for attribute in ("rates", "long_rates"):
                left, right = _own(our, attribute), _own(their, attribute)
                found |= {(name, rate) for rate in left.keys() | right.keys() if left.get(rate) != right.get(rate)}
            if (our.long_above, our.search_per) != (their.long_above, their.search_per):
                found.add((name, "rules"))
    return found


def _own(table: RateTable, attribute: str) -> dict[str, int]:
    return {name: rate for name, rate in getattr(table, attribute).items() if name not in table.fallbacks}


def test_our_book_and_genai_prices_differ_only_where_a_reason_is_given() -> None:
    found = _compare()
    assert {(name, rate) for name, rate in found if rate not in WITHOUT_UNIT} == DIFFERENCES.keys()
    assert {rate for _, rate in found} >= WITHOUT_UNIT.keys()


def test_batch_rates_are_those_that_genai_prices_lists() -> None:
    """The only tier that it has for Google. Searches are left out: a batch has the standard rate."""
    ours = PriceBook(read_book())
    google = next(provider for provider in data.providers if provider.id == "google")
    compared = 0
    for info in google.models:
        if info.price_variants is None or not ours.knows(info.id):
            continue
        for moment in MOMENTS[1:]:
            when = datetime.fromtimestamp(moment // 1_000_000, UTC)
            theirs = vars(info.get_prices(when, {"processing": "batch"}))
            table = ours.rates_at(info.id, moment, "batch")
            assert table is not None
            for key, name in GENAI_NAMES.items():
                if isinstance(theirs.get(key), Decimal):
                    assert table.rates[name] == nano_dollars(theirs[key]), (info.id, name, when)
                    compared += 1
    assert compared > 50


def test_tiers_are_those_that_genai_prices_lists_for_the_few_models_that_have_them() -> None:
    """Speech models only; for them, and for no other model of its own, our multiples can be checked."""
    ours = PriceBook.of(None)
    google = next(provider for provider in data.providers if provider.id == "google")
    compared = 0
    for info in google.models:
        tiers = {
            variant.when["service_tier"] for variant in info.price_variants or () if "service_tier" in variant.when
        }
        for tier in tiers:
            for moment in MOMENTS[1:]:
                theirs = vars(info.get_prices(datetime.fromtimestamp(moment // 1_000_000, UTC), {"service_tier": tier}))
                table = ours.rates_at(info.id, moment, tier)
                assert table is not None
                for key, name in GENAI_NAMES.items():
                    if isinstance(theirs.get(key), Decimal):
                        assert table.rates[name] == nano_dollars(theirs[key]), (info.id, tier, name)
                        compared += 1
    assert compared >= 24


def _model(name: str) -> Model | None:
    return next((model for matches, model in read_genai_prices() if matches(name)), None)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gemini-3.8-live-extended-thinking", "gemini-3.8-live"),
        ("gemini-3.1-pro-preview-customtools", "gemini-3.1-pro-preview"),
        ("gemini-2.5-flash-native-audio-latest", "gemini-live-2.5-flash"),
        ("gemini-3.8-flash-tts", "gemini-3.8-flash-tts"),
        ("gemini-3.8-flash-image", None),
        ("gemini-3.8-flash-lite", None),
        ("gemini-2.5-pro-image", None),
        ("gemma-4-31b-it", None),
        ("tunedModels/gemini-3.8-flash", None),
        ("", None),
    ],
)
def test_a_prefix_of_genai_prices_does_not_price_another_kind_of_model(name: str, found: str | None) -> None:
    model = _model(name)
    assert (model.id if model else None) == found


def test_the_source_bears_the_version() -> None:
    model = _model("gemini-3-flash-preview")
    assert model is not None
    assert model.source == "genai-prices 0.2.3"


def test_speech_is_audio_at_the_one_output_rate_that_is_given() -> None:
    model = _model("gemini-2.5-flash-preview-tts")
    assert model is not None
    assert model.periods[0].standard == {
        "input_text": 500_000_000,
        "output_text": 10_000_000_000,
        "output_audio": 10_000_000_000,
    }


def test_prices_by_length_of_prompt_come_along() -> None:
    model = _model("gemini-1.5-pro")
    assert model is not None
    assert model.long_above == 128_000
    assert model.periods[0].long["output_text"] == 10_000_000_000
