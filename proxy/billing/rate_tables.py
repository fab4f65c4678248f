"""The rates that calls are charged at: a table for a model, a tier and a time, with every gap filled by rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from proxy.billing.price_book import RATE_NAMES, Model, Override, Period, Rates

_FALLBACKS = {
    **{f"input_{kind}": ("input_text",) for kind in ("image", "audio", "video", "document")},
    "cached_text": ("input_text",),
    **{
        f"cached_{kind}": ("cached_text", f"input_{kind}", "input_text")
        for kind in ("image", "audio", "video", "document")
    },
}
"""A-MODALITY-AS-TEXT, A-CACHED-AS-INPUT. Output has none: A-NO-RATE-NO-COST."""


class RateTable(NamedTuple):
    """The rates that a call of a model is charged at: nano-dollars per million, by name, fallbacks filled in."""

    model: str
    """Whose rates these are."""
    source: str
    rates: Rates
    long_rates: Rates
    long_above: int | None
    """Prompt tokens beyond which `long_rates` hold for the whole call."""
    search_per: str
    """What a search is charged by: "query", or "prompt" (at most one a call)."""
    configured: frozenset[str]
    """Names whose rate is the configuration's."""
    fallbacks: Mapping[str, str]
    """Names without a rate of their own, and the name whose rate they have."""


def build(
    name: str, model: Model | None, overrides: Iterable[Override], tier: str, multiple: Decimal, at: int
) -> RateTable | None:
    """The table of `name` at `at` (Unix microseconds), whose entry is `model`; None where it has no input rate.

    `overrides` are all of the configuration's, in their order; `multiple` is what `tier` costs of the standard rate.
    """
    own: dict[str, int] = {}
    for override in overrides:
        if override.since <= at and override.matches((name, model.id) if model else (name,)):
            own |= override.rates
    if model is None:
        model = Model(name, "configuration", (Period(0, own),))
    period = next((period for period in reversed(model.periods) if period.since <= at), model.periods[0])
    standard = {**period.standard, **own}
    if "input_text" not in standard:
        return None
    special = _without(period.tiers.get(tier, {}), own)
    rates = {**_in_tier(standard, model, multiple), **special}
    long_rates = {**rates, **_in_tier(_without(period.long, own), model, multiple)}
    fallbacks = _fallbacks(rates)
    return RateTable(
        model.id,
        model.source,
        {**rates, **{name: rates[other] for name, other in fallbacks.items()}},
        {**long_rates, **{name: long_rates[other] for name, other in fallbacks.items()}},
        model.long_above,
        model.search_per,
        frozenset((*own, *(name for name, other in fallbacks.items() if other in own))),
        fallbacks,
    )


def _without(rates: Rates, own: Rates) -> dict[str, int]:
    return {name: rate for name, rate in rates.items() if name not in own}


def _in_tier(rates: Rates, model: Model, multiple: Decimal) -> dict[str, int]:
    """Standard rates x `multiple`; searches keep their rate, and in cheaper tiers a model's cached tokens may."""
    keeps = ("search",) if model.cached_by_tier or multiple > 1 else ("search", "cached_")
    return {
        name: rate if name.startswith(keeps) else int((rate * multiple).to_integral_value())
        for name, rate in rates.items()
    }


def _fallbacks(rates: Rates) -> dict[str, str]:
    found = {}
    for name in RATE_NAMES:
        if name not in rates:
            other = next((other for other in _FALLBACKS.get(name, ()) if other in rates), None)
            if other is not None:
                found[name] = other
    return found
