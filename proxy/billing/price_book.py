"""What the price book is made of: models, their rates over time, other names; and [[prices]] of the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from datetime import time as clock_time
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from proxy.billing.assumptions import Assumption
from proxy.billing.records import to_usd
from proxy.config.globs import is_glob

PACIFIC = ZoneInfo("America/Los_Angeles")
RATE_NAMES = (
    *("input_text", "input_image", "input_audio", "input_video", "input_document"),
    *("cached_text", "cached_image", "cached_audio", "cached_video", "cached_document"),
    *("output_text", "output_image", "output_audio", "output_video"),
    *("search", "maps"),
)
"""What is priced: tokens by direction and modality, searches, and look-ups of places."""
LATER_NAMES = ("cache_storage", "second_720p", "second_1080p", "second_4k")
"""What the book has rates of, and nothing is charged for yet: token-hours of a cache kept, seconds of video made."""
PER_1000 = {"search": "search_per_1000", "maps": "maps_per_1000"}
"""Rates that are stated in USD per 1,000, and how the book and the configuration name them."""
MOST_USD = 1000
MOST_USD_PER_1000 = 1_000_000
"""Of any rate. What is dearer is a slip of the hand, and could overflow the ledger's integers."""

Rates = Mapping[str, int]
"""Nano-dollars per million, by rate name."""

_NONE: Rates = MappingProxyType({})
_NO_TIERS: Mapping[str, Rates] = MappingProxyType({})


class Period(NamedTuple):
    """The rates of a model from `since` (Unix microseconds, 0: always) until the next period begins."""

    since: int
    standard: Rates
    long: Rates = _NONE
    """Those that differ where the prompt is longer than the model's `long_above`."""
    tiers: Mapping[str, Rates] = _NO_TIERS
    """Those that a tier sets itself; the others are multiples of the standard rate."""


class Model(NamedTuple):
    """One model: its rates over time, and the tokens of its pictures."""

    id: str
    source: str
    """As the ledger writes it: "price book 2026-11-21", "genai-prices 0.2.3"."""
    periods: tuple[Period, ...]
    images: Mapping[str, int] = _NONE
    """Tokens of an image made, by size."""
    picture: int | None = None
    """Tokens of a picture sent in, where that is known for this model."""
    long_above: int | None = None
    input_token_limit: int | None = None
    """The longest prompt, in tokens; as Google's list of models names it. None: not known."""
    output_token_limit: int | None = None
    """The most tokens of an answer, thinking included."""
    cached_by_tier: bool = False
    search_per: str = "query"
    note: str = ""
    sources: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Alias(NamedTuple):
    """Another name of a model, from `since` on."""

    model: str
    since: int


class Book(NamedTuple):
    """The price book's file, read."""

    source: str
    models: dict[str, Model]
    aliases: dict[str, Alias]
    tiers: dict[str, Decimal]
    assumptions: dict[str, Assumption]


class Override(NamedTuple):
    """One [[prices]] of the configuration: an id or a glob, and the rates that stand before all others from `since`."""

    model: str
    since: int
    rates: Rates

    @property
    def is_glob(self) -> bool:
        return is_glob(self.model)

    def matches(self, names: Iterable[str]) -> bool:
        return any(fnmatchcase(name, self.model) for name in names)


def nano_dollars(usd: object, per: int = 1) -> int:
    """USD per million, exactly, as nano-dollars per million; with per=1000, USD per thousand. Raises ValueError."""
    try:
        amount = Decimal(str(usd))
    except InvalidOperation:
        raise ValueError(f"{usd!r} is not an amount in USD: write it as 1.50") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{usd} is not a rate: it must be a number of USD, zero or more")
    if amount.adjusted() > 18:  # "1e999999" would take a minute, and all memory
        raise ValueError(f"{usd} is not a rate: it is more than there is")
    nanos = amount * per * 1_000_000_000
    if nanos != int(nanos):
        raise ValueError(f"{usd} is finer than a nano-dollar: give at most nine decimal places")
    return int(nanos)


def rates_of(row: Mapping[str, Any]) -> dict[str, int]:
    """A row's rates in nano-dollars per million, of whatever it is that is counted."""
    rates = {}
    for name in (*RATE_NAMES, *LATER_NAMES):
        usd = row.get(PER_1000.get(name, name))
        if usd is not None:
            rates[name] = nano_dollars(usd, _per(name))
    return rates


def is_priced(rates: Rates) -> bool:
    """Whether these can be a model's rates: it takes text in, or is charged by the second."""
    return "input_text" in rates or any(name.startswith("second_") for name in rates)


def stated(name: str, rate: int) -> tuple[str, str]:
    """A rate's name and USD as the book states them: search, nano-dollars per million → "search_per_1000", "14"."""
    return PER_1000.get(name, name), to_usd(rate // _per(name))


def _per(name: str) -> int:
    """What makes the amount that the book states into one per million."""
    return 1000 if name in PER_1000 else 1_000_000 if name.startswith("second_") else 1


def starts(day: date | datetime | None) -> int:
    """When a day begins in Los Angeles (A-DATES-ARE-PACIFIC), in Unix microseconds; 0 where no day is given."""
    if day is None:
        return 0
    moment = day if isinstance(day, datetime) else datetime.combine(day, clock_time())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=PACIFIC)
    return int(moment.timestamp()) * 1_000_000


def day_of(at: int) -> str:
    """The day in Los Angeles, as "2026-12-01", of a moment in Unix microseconds."""
    return datetime.fromtimestamp(at // 1_000_000, PACIFIC).date().isoformat()


def read_overrides(prices: Iterable[Any]) -> tuple[Override, ...]:
    """[[prices]], globs before ids, older before newer: the last that matches has the last word.

    Each has `model`, `from_` (a date or None), and any of the rate names as attributes, USD per million tokens;
    `search_per_1000` and `maps_per_1000` are USD per 1,000. Raises ValueError that names the model and the rate.
    """
    overrides = []
    for price in prices:
        row = {name: getattr(price, name, None) for name in (*RATE_NAMES, *PER_1000.values())}
        try:
            rates = rates_of(row)
        except ValueError as error:
            raise ValueError(f'[[prices]] of model = "{price.model}": {error}') from None
        overrides.append(Override(price.model.removeprefix("models/"), starts(price.from_), rates))
    return tuple(sorted(overrides, key=lambda override: (not override.is_glob, override.since)))
