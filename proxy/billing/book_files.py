"""The price book's file, as it comes with the package or from elsewhere: read, and wholly checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import msgspec

from proxy.billing.assumptions import ASSUMPTIONS, Assumption
from proxy.billing.price_book import (
    LATER_NAMES,
    MOST_USD,
    MOST_USD_PER_1000,
    PER_1000,
    RATE_NAMES,
    Alias,
    Book,
    Model,
    Period,
    is_priced,
    nano_dollars,
    rates_of,
    starts,
)

TIERS = ("flex", "batch", "priority")
_RATE_WORDS = frozenset(PER_1000.get(name, name) for name in (*RATE_NAMES, *LATER_NAMES))
_ROW_WORDS = _RATE_WORDS | {"from", "long", *TIERS}

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
_Count = Annotated[int, msgspec.Meta(gt=0, le=1 << 24)]


class _ModelRow(msgspec.Struct, forbid_unknown_fields=True):
    id: _Name
    prices: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    sources: list[str]
    note: str = ""
    images: dict[str, _Count] = {}
    picture: _Count | None = None
    long_above: _Count | None = None
    input_token_limit: _Count | None = None
    output_token_limit: _Count | None = None
    cached_by_tier: bool = False
    search_per: Literal["query", "prompt"] = "query"
    assumptions: list[str] = []


class _AliasRow(msgspec.Struct, forbid_unknown_fields=True, rename={"since": "from"}):
    name: _Name
    model: str
    since: date | None = None


class _AssumptionRow(msgspec.Struct, forbid_unknown_fields=True):
    name: _Name
    applies: str
    says: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: date
    timezone: Literal["America/Los_Angeles"]
    sources: dict[str, str]
    tiers: dict[str, Decimal]
    models: list[_ModelRow]
    aliases: list[_AliasRow]
    assumptions: list[_AssumptionRow] = []


msgspec.json.Decoder(_File)
"""Made for what it leaves behind: msgspec looks at a type when it is first used, and two threads that are the first at
once, as checks of `doctor` may be, crash the process (0.22)."""


@cache
def read_book() -> Book:
    """The price book that comes with the package."""
    text = files("proxy.billing").joinpath("price_book.toml").read_text(encoding="utf-8")
    return book_of(tomllib.loads(text, parse_float=Decimal))


def book_of(raw: object) -> Book:
    """The book in a file's decoded TOML or JSON. Raises ValueError, which says where, and what is wrong."""
    try:
        file = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise ValueError(f"it is not in the form of a price book: {error}") from None
    source = f"price book {file.version}"
    models = {row.id: _model(row, source, file.sources) for row in file.models}
    aliases = {row.name: Alias(row.model, starts(row.since)) for row in file.aliases}
    # Most are of how the program weighs, whatever book it prices by: of those the program knows best.
    assumptions = {row.name: Assumption(row.applies, row.says) for row in file.assumptions} | ASSUMPTIONS
    _refuse_repeated(file)
    if odd := [tier for tier, multiple in file.tiers.items() if tier not in TIERS or not _is_multiple(multiple)]:
        raise ValueError(f"tiers: {', '.join(odd)} is no tier, or no multiple of the standard rate")
    for row in file.models:
        _refuse_unknown(f"assumptions of {row.id}", row.assumptions, assumptions)
    for name, alias in aliases.items():
        _refuse_unknown(f"model of the alias {name}", [alias.model], models)
    return Book(source, models, aliases, {"standard": Decimal(1), **file.tiers}, assumptions)


def _model(row: _ModelRow, source: str, sources: Mapping[str, str]) -> Model:
    """Raises ValueError."""
    try:
        periods = tuple(_period(price) for price in row.prices)
        _check_periods(periods, has_long=row.long_above is not None)
    except ValueError as error:
        raise ValueError(f"prices of {row.id}: {error}") from None
    _refuse_unknown(f"sources of {row.id}", row.sources, sources)
    return Model(
        row.id,
        source,
        periods,
        row.images,
        row.picture,
        row.long_above,
        row.input_token_limit,
        row.output_token_limit,
        row.cached_by_tier,
        row.search_per,
        row.note,
        tuple(sources[name] for name in row.sources),
        tuple(row.assumptions),
    )


def _period(price: dict[str, Any]) -> Period:
    if unknown := price.keys() - _ROW_WORDS:
        raise ValueError(f"{', '.join(sorted(unknown))} is no rate")
    tiers = {tier: _checked_rates(price[tier]) for tier in TIERS if tier in price}
    own = {name: value for name, value in price.items() if name in _RATE_WORDS}
    return Period(starts(_day(price.get("from"))), _checked_rates(own), _checked_rates(price.get("long", {})), tiers)


def _checked_rates(row: object) -> dict[str, int]:
    if not isinstance(row, Mapping):
        raise ValueError(f"{row!r} is no table of rates")
    if unknown := row.keys() - _RATE_WORDS:
        raise ValueError(f"{', '.join(sorted(map(str, unknown)))} is no rate")
    for name, usd in row.items():
        if isinstance(usd, bool) or not isinstance(usd, int | float | Decimal | str):
            raise ValueError(f"{name} is not a number of USD")
        if nano_dollars(usd) > nano_dollars(most := MOST_USD_PER_1000 if name.endswith("_per_1000") else MOST_USD):
            raise ValueError(f"{name} = {usd} is more than {most:,} USD")
    return rates_of(row)


def _day(value: object) -> date | None:
    if isinstance(value, str):
        return date.fromisoformat(value)
    if value is None or isinstance(value, date):
        return value
    raise ValueError(f"from = {value!r} is no day: write 2027-01-01")


def _check_periods(periods: tuple[Period, ...], *, has_long: bool) -> None:
    """A row stands alone: a rate that is left out of it would be lost from its day on."""
    moments = [period.since for period in periods]
    if moments[0] != 0 or moments != sorted(set(moments)):
        raise ValueError("the first row always held and has no `from`; the others have one each, in order")
    for earlier, period in zip((periods[0], *periods), periods, strict=False):
        if not is_priced(period.standard):
            raise ValueError("a row has no input_text")
        if lost := earlier.standard.keys() - period.standard.keys():
            raise ValueError(f"a later row leaves out {', '.join(sorted(lost))}")
        if bool(period.long) != has_long:
            raise ValueError("`long` and `long_above` go together")


def _is_multiple(number: Decimal) -> bool:
    return number.is_finite() and 0 < number <= 10


def _refuse_unknown(where: str, names: list[str], known: Mapping[str, object]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{where}: {', '.join(unknown)} is not in the file")


def _refuse_repeated(file: _File) -> None:
    for what, names in (
        ("model", [row.id for row in file.models]),
        ("alias", [row.name for row in file.aliases]),
        ("assumption", [row.name for row in file.assumptions]),
    ):
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{what} {', '.join(sorted(repeated))} stands in the file twice")
