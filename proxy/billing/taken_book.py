"""The price book that an operator took in place of the package's: data_dir/prices.json, wholly checked when read."""

from __future__ import annotations

import json
import tomllib
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from proxy.billing.book_files import book_of, read_book
from proxy.billing.genai_rates import Matcher, google_of, read_genai_data, read_genai_prices
from proxy.billing.price_book import Book, Model, Period
from proxy.store.folders import make_folder, remove_file, write_file

Others = tuple[tuple[Matcher, Model], ...]
"""Models that the book lacks, with the test that says whether a name is theirs."""

GO_BACK = "`weighbridge prices update --builtin` goes back to the price book that comes with the program"


class Taken(NamedTuple):
    """A price book taken from elsewhere."""

    form: Literal["price book", "genai-prices"]
    day: date
    """Of a price book, its version; of genai-prices' data, which has none, the day on which it was taken."""
    origin: str
    """The file or the address that it came from."""
    data: Any
    """As it is kept: what json makes of it."""

    @property
    def source(self) -> str:
        """As the ledger names it."""
        return f"{self.form} {self.day}"


def take(text: bytes, origin: str, today: date) -> Taken:
    """A price book in our form (TOML or JSON), or genai-prices' data (JSON), checked. Raises ValueError."""
    raw = _decoded(text)
    if isinstance(raw, list):
        taken = Taken("genai-prices", today, origin, [google_of(raw)])
    else:
        day = date.fromisoformat(book_of(raw).source.rpartition(" ")[2])
        taken = Taken("price book", day, origin, json.loads(json.dumps(raw, default=str)))
    books(taken)
    return taken


def books(taken: Taken | None) -> tuple[Book, Others]:
    """The book in force where this one was taken (None: the package's), and the models that it lacks.

    genai-prices' rates go before those of the package's book, model by model; what it doesn't say stays. Raises
    ValueError.
    """
    if taken is None:
        return read_book(), read_genai_prices()
    if taken.form == "price book":
        return book_of(taken.data), read_genai_prices()
    others = read_genai_data(taken.data, taken.source)
    book = read_book()
    return book._replace(models={name: _overlaid(model, others) for name, model in book.models.items()}), others


def read(file: Path) -> tuple[Taken, tuple[Book, Others]] | None:
    """The book that was taken, and what it makes; None where none was taken. Raises ValueError, with what to do."""
    try:
        return _made(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} can't be used: {error or type(error).__name__}. {GO_BACK}") from None


@lru_cache(1)
def _made(text: str) -> tuple[Taken, tuple[Book, Others]]:
    """Of a file that is as it was it is not made again: genai-prices' data takes a twentieth of a second."""
    kept = json.loads(text)
    taken = Taken(kept["form"], date.fromisoformat(kept["day"]), str(kept["origin"]), kept["data"])
    return taken, books(taken)


def keep(file: Path, taken: Taken | None) -> None:
    """Puts the book where servers find it, whole or not at all; None removes it. Raises OSError."""
    if taken is None:
        remove_file(file)
        return
    make_folder(file.parent)
    write_file(file, json.dumps(taken._asdict() | {"day": taken.day.isoformat()}, ensure_ascii=False))


def outdated(taken: Taken | None) -> str | None:
    """A sentence where the book that was taken is older than the one that comes with the program."""
    builtin = read_book().source
    if taken is None or taken.day >= date.fromisoformat(builtin.rpartition(" ")[2]):
        return None
    return (
        f"{taken.source}, taken from {taken.origin}, is older than {builtin}, which comes with the program: {GO_BACK}"
    )


def _decoded(text: bytes) -> Any:
    """Raises ValueError."""
    try:
        if text.lstrip()[:1] in (b"{", b"["):
            # genai-prices' own reader expects floats; as ours go through their shortest digits, nothing is lost.
            return json.loads(text)
        return tomllib.loads(text.decode(), parse_float=Decimal)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is neither JSON nor TOML: {error}") from None


def _overlaid(model: Model, others: Others) -> Model:
    """The model with the rates that another reading has of it; itself where that says the same."""
    other = next((other for matches, other in others if matches(model.id)), None)
    if other is None:
        return model
    periods: list[Period] = []
    for since in sorted({period.since for period in (*model.periods, *other.periods)}):
        period = _merged(_at(model, since), _at(other, since), since)
        if not periods or period._replace(since=0) != periods[-1]._replace(since=0):
            periods.append(period)
    if tuple(periods) == model.periods and other.long_above in (None, model.long_above):
        return model
    return model._replace(
        source=other.source,
        sources=(*model.sources, *other.sources),
        periods=tuple(periods),
        long_above=other.long_above or model.long_above,
    )


def _merged(ours: Period, theirs: Period, since: int) -> Period:
    """Their rates before ours. A rate that a tier sets itself falls where the standard rate of it is another now."""
    standard = {**ours.standard, **theirs.standard}
    moved = {name for name, rate in standard.items() if ours.standard.get(name) != rate}
    tiers = {
        tier: {name: rate for name, rate in rates.items() if name not in moved} for tier, rates in ours.tiers.items()
    }
    return Period(since, standard, {**ours.long, **theirs.long}, tiers)


def _at(model: Model, moment: int) -> Period:
    return next(period for period in reversed(model.periods) if period.since <= moment)
