"""Where rates stand: the price book's file, and [[prices]] of the configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from datetime import time as clock_time
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from importlib.resources import files
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

PACIFIC = ZoneInfo("America/Los_Angeles")
RATE_NAMES = (
    *("input_text", "input_image", "input_audio", "input_video", "input_document"),
    *("cached_text", "cached_image", "cached_audio", "cached_video", "cached_document"),
    *("output_text", "output_image", "output_audio", "output_video"),
    "search",
)
"""What can be priced: tokens by direction and modality, and searches."""

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
    """As the ledger writes it: "price book 2026-11-20", "genai-prices 0.2.3"."""
    periods: tuple[Period, ...]
    images: Mapping[str, int] = _NONE
    """Tokens of an image made, by size."""
    picture: int | None = None
    """Tokens of a picture sent in, where that is known for this model."""
    long_above: int | None = None
    cached_by_tier: bool = False
    search_per: str = "query"
    note: str = ""
    sources: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Alias(NamedTuple):
    """Another name of a model, from `since` on."""

    model: str
    since: int


class Assumption(NamedTuple):
    """What Google doesn't document and is assumed; `applies` says of which models."""

    applies: str
    says: str


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
        return any(sign in self.model for sign in "*?[")

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
    nanos = amount * per * 1_000_000_000
    if nanos != int(nanos):
        raise ValueError(f"{usd} is finer than a nano-dollar: give at most nine decimal places")
    return int(nanos)


def _rates(row: Mapping[str, Any]) -> dict[str, int]:
    rates = {name: nano_dollars(row[name]) for name in RATE_NAMES if row.get(name) is not None and name != "search"}
    if row.get("search_per_1000") is not None:
        rates["search"] = nano_dollars(row["search_per_1000"], per=1000)
    return rates


def starts(day: date | datetime | None) -> int:
    """When a day begins in Los Angeles (A-DATES-ARE-PACIFIC), in Unix microseconds; 0 where no day is given."""
    if day is None:
        return 0
    moment = day if isinstance(day, datetime) else datetime.combine(day, clock_time())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=PACIFIC)
    return int(moment.timestamp()) * 1_000_000


def read_book() -> Book:
    """The price book that comes with the package."""
    text = files("proxy.billing").joinpath("price_book.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text, parse_float=Decimal)
    source = f"price book {raw['version']}"
    return Book(
        source,
        {row["id"]: _model(row, source, raw["sources"]) for row in raw["models"]},
        {row["name"]: Alias(row["model"], starts(row.get("from"))) for row in raw["aliases"]},
        {"standard": Decimal(1), **{tier: Decimal(multiple) for tier, multiple in raw["tiers"].items()}},
        {row["name"]: Assumption(row["applies"], row["says"]) for row in raw["assumptions"]},
    )


def _model(row: Mapping[str, Any], source: str, sources: Mapping[str, str]) -> Model:
    periods = tuple(
        Period(
            starts(price.get("from")),
            _rates(price),
            _rates(price.get("long", {})),
            {tier: _rates(price[tier]) for tier in ("flex", "batch", "priority") if tier in price},
        )
        for price in row["prices"]
    )
    return Model(
        row["id"],
        source,
        periods,
        row.get("images", {}),
        row.get("picture"),
        row.get("long_above"),
        row.get("cached_by_tier", False),
        row.get("search_per", "query"),
        row.get("note", ""),
        tuple(sources[name] for name in row["sources"]),
        tuple(row.get("assumptions", ())),
    )


def read_overrides(prices: Iterable[Any]) -> tuple[Override, ...]:
    """[[prices]], globs before ids, older before newer: the last that matches has the last word.

    Each has `model`, `from_` (a date or None), and any of the rate names as attributes, USD per million tokens;
    `search_per_1000` is USD per 1,000 searches. Raises ValueError that names the model and the rate.
    """
    overrides = []
    for price in prices:
        row = {name: getattr(price, name, None) for name in (*RATE_NAMES, "search_per_1000")}
        try:
            rates = _rates(row)
        except ValueError as error:
            raise ValueError(f'[[prices]] of model = "{price.model}": {error}') from None
        overrides.append(Override(price.model.removeprefix("models/"), starts(price.from_), rates))
    return tuple(sorted(overrides, key=lambda override: (not override.is_glob, override.since)))
