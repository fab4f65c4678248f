"""Where the ledger is read: ledger files, one or many side by side, or PostgreSQL. The same SQL reads both."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

from sqlalchemy import text

from proxy.billing import ledger_reading
from proxy.billing.ledger_reading import Removed, ledger_files, removed
from proxy.billing.records import COLUMNS, UsageRecord, from_row
from proxy.config.schema import Storage
from proxy.store.database import Database

Source: TypeAlias = Path | Database
"""A ledger file, or the PostgreSQL to which ledger files are shipped."""
Row = tuple[Any, ...]
RECORDS_PAGE = 500
"""How much one statement reads: a reader that holds its transaction long keeps the writer's WAL from shrinking."""
_NUMERIC = 1700
"""The type that PostgreSQL's sums of whole numbers have: https://www.postgresql.org/docs/current/functions-aggregate.html"""
SHIPPED_SPAN = 20_000
"""Numbers that a statement of PostgreSQL passes over at most, where few of them are asked for: a bound of its time."""


def is_shipped(source: Source) -> bool:
    """Whether its records come from elsewhere, so that the last ones may not be there yet."""
    return isinstance(source, Database)


class Part(NamedTuple):
    """What a source has of one ledger file: its records from the seq `first` to `last`, both 0 where there are none."""

    file_id: str
    first: int
    last: int
    removed: Removed


class Reader(ABC):
    """A source, opened. Its SQL has named parameters, no more than both dialects have, and texts ordered by bytes.

    Each statement stands for itself: between two of them, what is read may have grown.
    """

    of_part: str
    """What restricts usage_records to one Part, `:file_id`."""
    span: int
    """How many numbers a statement passes over at most."""
    hours: int
    """How many hours of sums a statement adds up at most."""

    @abstractmethod
    def named(self, sql: str, values: Mapping[str, Any]) -> tuple[Sequence[str], list[Row]]:
        """The columns' names, and the rows."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """Of each ledger file that is here, what can be read now and never changes but by being removed."""

    @abstractmethod
    def removed_before(self) -> int:
        """Records of calls that started before this Unix microsecond may be gone; 0: none is."""

    @abstractmethod
    def listed(self, columns: Container[str]) -> str:
        """The select list of seq and COLUMNS, with NULL in place of other columns than these."""

    def rows(self, sql: str, **values: Any) -> list[Row]:
        return self.named(sql, values)[1]

    def records(self, where: str, **values: Any) -> list[UsageRecord]:
        columns, rows = self.named(f"SELECT * FROM usage_records WHERE {where}", values)  # noqa: S608
        return [from_row(columns, row) for row in rows]


class _FileReader(Reader):
    """A ledger file, maybe one of an older version."""

    of_part = ""
    span = RECORDS_PAGE
    hours = 31 * 24

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def named(self, sql: str, values: Mapping[str, Any]) -> tuple[Sequence[str], list[Row]]:
        found = self._connection.execute(sql, values)
        return [column[0] for column in found.description], found.fetchall()

    def parts(self) -> list[Part]:
        # Together, min and max would read all of it.
        ends = "(SELECT min(seq) FROM usage_records), (SELECT max(seq) FROM usage_records)"
        [(file_id, first, last)] = self.rows(f"SELECT file_id, {ends} FROM file")  # noqa: S608
        return [Part(file_id, first or 0, last or 0, removed(self._connection))]

    def removed_before(self) -> int:
        return removed(self._connection).before

    def listed(self, columns: Container[str]) -> str:
        return ledger_reading.listed(self._connection, columns)


class _PostgresReader(Reader):
    """The tables of billing/ledger_tables.py. Each statement is a transaction: a slow reader holds up nobody's work.

    A ledger file is shipped in the order of its numbers, and what it was shipped through is committed with the records:
    so up to there, none comes later, however many nodes ship at once.
    """

    of_part = "file_id = :file_id AND "
    span = SHIPPED_SPAN
    hours = 7 * 24  # of more projects than a file has, within the time that a statement gets

    def __init__(self, database: Database) -> None:
        self._database = database

    def named(self, sql: str, values: Mapping[str, Any]) -> tuple[Sequence[str], list[Row]]:
        with self._database.reading() as connection:
            found = connection.execute(text(sql), values)
            sums = [at for at, column in enumerate(found.cursor.description or ()) if column[1] == _NUMERIC]
            rows = [tuple(row) for row in found]
            return list(found.keys()), [_whole(row, sums) for row in rows] if sums else rows

    def parts(self) -> list[Part]:
        before = self.removed_before()
        shipped = self.rows(
            "SELECT file_id, (SELECT min(seq) FROM usage_records WHERE usage_records.file_id = shipped.file_id),"
            " through_seq FROM shipped ORDER BY file_id"
        )
        return [_shipped(file_id, first, last, before) for file_id, first, last in shipped]

    def removed_before(self) -> int:
        [(before,)] = self.rows("SELECT coalesce(max(removed_before), 0) FROM removed_partitions")
        return int(before)

    def listed(self, columns: Container[str]) -> str:
        return ", ".join(("seq", *(name if name in columns else "NULL" for name in COLUMNS)))


def _whole(row: Row, sums: Sequence[int]) -> Row:
    values = list(row)
    for at in sums:
        values[at] = int(values[at])
    return tuple(values)


def _shipped(file_id: str, first: int | None, last: int, before: int) -> Part:
    gone = last if first is None else first - 1
    return Part(file_id, first or 0, last, Removed(gone, before) if before and gone else Removed())


@contextmanager
def opened(source: Source) -> Iterator[Reader]:
    """The source, opened. Raises LedgerUnusable for a file, StoreError for PostgreSQL, in the block too."""
    if isinstance(source, Database):
        yield _PostgresReader(source)
    else:
        with ledger_reading.reading(source) as connection:
            yield _FileReader(connection)


def parts(source: Source) -> list[Part]:
    """What a source has of which ledger files. Raises LedgerUnusable, StoreError."""
    with opened(source) as reader:
        return reader.parts()


def each_of(name: str, values: Iterable[Any]) -> tuple[str, dict[str, Any]]:
    """Values as a list of named parameters: what stands within IN (…), which must not be empty, and the parameters."""
    named = {f"{name}{number}": value for number, value in enumerate(values)}
    return ", ".join(f":{one}" for one in named), named


class Unshipped(NamedTuple):
    """Records of this node that PostgreSQL hasn't yet; calls before `since`, Unix microseconds, are all there."""

    records: int
    since: int


@dataclass(frozen=True)
class Sources:
    """Where this node reads the ledger. `postgres` is None where its own files are the ledger."""

    data_dir: Path
    postgres: Database | None = None

    @classmethod
    def of(cls, storage: Storage, database: Database) -> Self:
        return cls(storage.data_dir, database if database.postgresql else None)

    def bill(self) -> list[Source]:
        """Where each record stands once, for sums and exports: PostgreSQL, else this node's files."""
        return [self.postgres] if self.postgres else list(self.files())

    def files(self) -> list[Path]:
        """This node's files. Raises OSError: a folder that may not be read is no empty bill."""
        return ledger_files(self.data_dir)

    def unshipped_files(self) -> list[Path]:
        """This node's files where they aren't the bill: PostgreSQL may not have the latest of them yet."""
        return self.files() if self.postgres else []

    def everywhere(self) -> list[Source]:
        """This node's files first, then PostgreSQL: a record that was shipped may stand in both."""
        return [*self.files(), *([self.postgres] if self.postgres else [])]

    def unshipped(self) -> Unshipped | None:
        """What is known to be missing from `bill`. Raises LedgerUnusable, StoreError, OSError."""
        if self.postgres is None:
            return None
        through = {part.file_id: part.last for part in parts(self.postgres)}
        count, since = 0, 2**63 - 1
        for path in self.files():
            with opened(path) as reader:
                [part] = reader.parts()
                behind = max(through.get(part.file_id, 0), part.first - 1)
                if part.last > behind:
                    [(earliest,)] = reader.rows("SELECT min(started_at) FROM usage_records WHERE seq > :at", at=behind)
                    count, since = count + part.last - behind, min(since, earliest)
        return Unshipped(count, since) if count else None
