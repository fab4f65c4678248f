"""What calls are charged at: a table of rates for a model, a tier and a time, every gap filled by rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from proxy.billing.price_book import PER_1000, RATE_NAMES, Model, Override, Period, Rates, is_priced

_FALLBACKS = {
    **{f"input_{kind}": ("input_text",) for kind in ("image", "audio", "video", "document")},
    "cached_text": ("input_text",),
    **{
        f"cached_{kind}": ("cached_text", f"input_{kind}", "input_text")
        for kind in ("image", "audio", "video", "document")
    },
}
"""A-MODALITY-AS-TEXT, A-CACHED-AS-INPUT. Output has none: A-NO-RATE-NO-COST."""

_ONE_IN_ALL_TIERS = ("search", "maps", "cache_storage", "second_")
"""A-TIERS-ARE-MULTIPLES: of what isn't tokens, by the beginnings of their names."""


class Priced(NamedTuple):
    """What a call costs, and all that is needed to work it out again."""

    cost: int | None
    """Nano-dollars; None where the model, or one of the quantities, has no price."""
    rates: dict[str, tuple[int, int]]
    """Quantity charged and nano-dollars per million, of each quantity that isn't zero."""
    priced_as: str | None
    source: str | None


UNPRICED = Priced(None, {}, None, None)


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
    """What a search, or a look-up of places, is charged by: "query", or "prompt" (at most one a call)."""
    configured: frozenset[str]
    """Names whose rate is the configuration's."""
    fallbacks: Mapping[str, str]
    """Names without a rate of their own, and the name whose rate they have."""
    images: Mapping[str, int]
    """Tokens of an image made, by size."""
    picture: int | None
    """Tokens of a picture sent in, where they are known for this model."""
    input_token_limit: int | None = None
    """Of a prompt, where it is known for this model."""
    output_token_limit: int | None = None

    @property
    def is_image_model(self) -> bool:
        """Whether there is a rate for images made."""
        return "output_image" in self.rates

    def image_tokens(self, size: str | None = None) -> int | None:
        """Tokens of one image made in `size` ("512", "1K"; None: 1K, as at Google); None where unknown."""
        wanted = (size or "1K").upper()
        return self.images.get("512" if wanted == "0.5K" else wanted)

    def price(self, quantities: Mapping[str, int]) -> Priced:
        """What `quantities` cost.

        They are disjoint: cached tokens don't stand in input, image tokens not in text. Raises ValueError for a
        negative one.
        """
        rates = self.long_rates if self._is_long(quantities) else self.rates
        charged: dict[str, tuple[int, int]] = {}
        total = 0
        complete = True
        for name, quantity in quantities.items():
            if quantity < 0:
                raise ValueError(f"{quantity} {name} can't be priced: a quantity is never negative")
            rate = rates.get(name)
            if not quantity or rate is None:
                complete &= not quantity
                continue
            if name in PER_1000 and self.search_per == "prompt":
                quantity = 1
            charged[name] = quantity, rate
            total += quantity * rate
        source = "configuration" if not self.configured.isdisjoint(charged) else self.source
        return Priced(divide_half_even(total) if complete else None, charged, self.model, source)

    def _is_long(self, quantities: Mapping[str, int]) -> bool:
        if self.long_above is None:
            return False
        prompt = sum(quantity for name, quantity in quantities.items() if name.startswith(("input_", "cached_")))
        return prompt > self.long_above


def divide_half_even(total: int) -> int:
    """`total` quantity x nano-dollars per million, in nano-dollars: divided once by a million, half to even."""
    cost, rest = divmod(total, 1_000_000)
    return cost + (rest > 500_000 or (rest == 500_000 and cost & 1))


def build(
    name: str, model: Model | None, overrides: Iterable[Override], tier: str, multiple: Decimal, at: int
) -> RateTable | None:
    """The table of `name` at `at` (Unix microseconds), whose entry is `model`; None where it has no rates.

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
    if not is_priced(standard):
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
        model.images,
        model.picture,
        model.input_token_limit,
        model.output_token_limit,
    )


def _without(rates: Rates, own: Rates) -> dict[str, int]:
    return {name: rate for name, rate in rates.items() if name not in own}


def _in_tier(rates: Rates, model: Model, multiple: Decimal) -> dict[str, int]:
    """Standard rates x `multiple`; what isn't tokens keeps its rate, and in cheaper tiers cached tokens may."""
    keeps = _ONE_IN_ALL_TIERS if model.cached_by_tier or multiple > 1 else (*_ONE_IN_ALL_TIERS, "cached_")
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
