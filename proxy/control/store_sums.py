"""Two sides of a move held against each other: rows of each table, and what was used and spent, month by month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from proxy.billing.ledger_reading import file_id_of, reading
from proxy.billing.ledger_schema import HOURLY_SUMS
from proxy.store import copying
from proxy.store.database import Database

LIMIT_S = 600.0
"""What a statement gets: it may read a ledger of years whole."""
_HOURS = (
    f"SELECT hour, project, key_id, {', '.join(f'sum({name})' for name in HOURLY_SUMS)}"  # noqa: S608
    " FROM usage_hourly GROUP BY hour, project, key_id"
)
_SHOWN = {
    "calls": ("calls",),
    "tokens": ("prompt_token_count", "tool_use_prompt_token_count", "output_token_count"),
    "cost_usd": ("cost_usd",),
}
_AT = {name: tuple(list(HOURLY_SUMS).index(column) for column in columns) for name, columns in _SHOWN.items()}
_Who = tuple[str, str]
"""Project and key id."""


class Sums(NamedTuple):
    """Of a month. Money is nano-dollars."""

    calls: int = 0
    tokens: int = 0
    cost_usd: int = 0


class Held(NamedTuple):
    """One figure of both sides: the rows of a table, or what the records of all files cost, in nano-dollars."""

    what: str
    source: int
    target: int
    equal: bool
    """Whether the rows are the same; a month's, by project and key, in all that is counted."""


class Month(NamedTuple):
    """A month of UTC, "2026-11"."""

    month: str
    source: Sums
    target: Sums
    equal: bool


class Ledger(NamedTuple):
    """What one side's ledger holds."""

    records: int
    refused: int
    """Records that PostgreSQL wouldn't take."""
    spent: Mapping[tuple[str, str], int]
    """By file id and project, nano-dollars: what budgets begin with."""
    months: Mapping[str, Mapping[_Who, tuple[int, ...]]]


def of_files(files: Iterable[Path]) -> Ledger:
    """Of ledger files. Raises LedgerUnusable."""
    records, spent, hours = 0, defaultdict[tuple[str, str], int](int), list[Any]()
    for path in files:
        with reading(path) as connection:
            connection.execute("BEGIN")
            file_id = file_id_of(connection)
            records += connection.execute("SELECT count(*) FROM usage_records").fetchone()[0]
            rows = connection.execute(_HOURS).fetchall()
        hours += rows
        for _, project, _, *sums in rows:
            spent[file_id, project] += sums[_AT["cost_usd"][0]]
    return Ledger(records, 0, spent, _by_month(hours))


def of_postgres(database: Database, file_ids: Iterable[str]) -> Ledger:
    """What PostgreSQL has of these files; the hours of all. Raises StoreError."""
    files = {"file_ids": list(file_ids)}
    with database.reading(limit_s=LIMIT_S) as connection:
        return Ledger(
            _count(connection, "usage_records", files),
            _count(connection, "refused_records", files),
            {(file_id, project): int(spent) for file_id, project, spent in connection.execute(text(_SPENT), files)},
            _by_month(connection.execute(text(_HOURS))),
        )


_SPENT = (
    "SELECT file_id, project, sum(cost_usd) FROM file_spendings WHERE file_id = ANY(:file_ids)"
    " GROUP BY file_id, project"
)


def _count(connection: Connection, table: str, files: Mapping[str, Any]) -> int:
    query = f"SELECT count(*) FROM {table} WHERE file_id = ANY(:file_ids)"  # noqa: S608
    return int(connection.execute(text(query), files).scalar_one())


def _by_month(hours: Iterable[Any]) -> dict[str, dict[_Who, tuple[int, ...]]]:
    months: dict[str, dict[_Who, tuple[int, ...]]] = defaultdict(dict)
    for hour, project, key_id, *sums in hours:
        month = months[datetime.fromtimestamp(hour, UTC).strftime("%Y-%m")]
        before = month.get((project, key_id), (0,) * len(sums))
        month[project, key_id] = tuple(had + int(more) for had, more in zip(before, sums, strict=True))
    return months


def ledgers(source: Ledger, target: Ledger) -> list[Held]:
    """Records, and what they cost by file, of both."""
    spent = sum(source.spent.values()), sum(target.spent.values())
    return [
        Held("usage_records", source.records, target.records, source.records == target.records),
        Held("file_spendings, nano-dollars", *spent, _spent(source) == _spent(target)),
        *([Held("refused_records", 0, target.refused, False)] if target.refused else []),
    ]


def _spent(ledger: Ledger) -> dict[tuple[str, str], int]:
    return {who: spent for who, spent in ledger.spent.items() if spent}


def months(source: Ledger, target: Ledger) -> list[Month]:
    """Each month that one of them has."""
    names = sorted({*source.months, *target.months})
    return [
        Month(
            name,
            _shown(source.months.get(name, {})),
            _shown(target.months.get(name, {})),
            source.months.get(name) == target.months.get(name),
        )
        for name in names
    ]


def _shown(month: Mapping[_Who, tuple[int, ...]]) -> Sums:
    return Sums(**{name: sum(sums[i] for sums in month.values() for i in at) for name, at in _AT.items()})


def tables(source: Database, target: Database | None, *, same: bool) -> list[Held]:
    """The rows of each table. `same`: whether they are to be the same still. Raises StoreError."""
    ours = copying.told(source)
    theirs = copying.told(target) if target else ours
    return [Held(name, told.rows, theirs[name].rows, told == theirs[name] or not same) for name, told in ours.items()]
