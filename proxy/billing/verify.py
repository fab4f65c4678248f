"""Checks a ledger file against itself, read-only, while a server writes it or not: every finding names its record."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from proxy.billing import ledger_reading, reports
from proxy.billing import ledger_schema as schema
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_file import describe
from proxy.billing.ledger_reading import Removed, reading
from proxy.billing.record_check import faults
from proxy.billing.records import COLUMNS, UsageRecord, from_row, to_rfc3339, to_usd

_FILE_ID = re.compile(r"[0-9a-f]{32}")
_decode_lease = msgspec.json.Decoder(UsageRecord).decode


class Finding(NamedTuple):
    """What is wrong. `check` is one word: file, damage, lease, sequence, record, cost, usage, hourly or shipped."""

    check: str
    says: str
    record_id: str | None = None


class Summary(NamedTuple):
    """What a file holds. `open_leases` are calls in flight, or those of a server that died.

    Records up to `removed_through`, of calls before `removed_before` (Unix microseconds), were removed by retention.
    """

    path: Path
    file_id: str
    records: int
    first_seq: int | None
    last_seq: int | None
    open_leases: int
    removed_through: int
    removed_before: int


class Verifier:
    """One pass over a ledger file. Iterate over it to its end; then `summary` is what was seen.

    Each statement reads a page, or a whole small table: no transaction is held long, save the two that hold what must
    be of one moment, SQLite's own check of the file and the hourly sums.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.summary = Summary(path, "", 0, None, None, 0, *Removed())

    def __iter__(self) -> Iterator[Finding]:
        """Raises LedgerUnusable for what is no ledger file, or one that can't be read at all."""
        with reading(self._path) as connection:
            yield from self._file(connection)
            try:
                yield from self._damage(connection)
                yield from self._leases(connection)
                with closing(sqlite3.connect("", isolation_level=None)) as sums:
                    yield from self._records(connection, sums)
                    yield from self._hourly(connection, sums)
            except sqlite3.DatabaseError as error:
                yield Finding("damage", f"it can't be read to its end: {describe(error)}")

    def _file(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        if not schema.version_of(connection):
            raise LedgerUnusable(f"{self._path} is no ledger file: it has no table `file`.")
        file_id = ledger_reading.file_id_of(connection)
        self.summary = self.summary._replace(file_id=file_id)
        if not _FILE_ID.fullmatch(file_id):
            yield Finding("file", f"its file_id is {file_id[:80]!r}, which no ledger file was given")
        there = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")}
        if missing := schema.TRIGGERS - there:
            yield Finding("file", f"it lacks {', '.join(sorted(missing))}: records could be changed, or not be summed")

    def _damage(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        for (said,) in connection.execute("PRAGMA integrity_check"):
            if said != "ok":
                yield Finding("damage", str(said))

    def _leases(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        """A lease ends in the transaction that writes its record: never do both stand."""
        rows = connection.execute(
            "SELECT record_id, opened_at, record, EXISTS (SELECT 1 FROM usage_records"
            " WHERE usage_records.record_id = leases.record_id) FROM leases"
        ).fetchall()
        self.summary = self.summary._replace(open_leases=len(rows))
        for record_id, opened_at, record, settled in rows:
            if settled:
                yield Finding("lease", "its record is written, and its lease still open", record_id)
            try:
                lease = _decode_lease(record)
            except msgspec.DecodeError as error:
                yield Finding("lease", f"its lease can't be read, so no start can close it out: {error}", record_id)
                continue
            if (lease.record_id, lease.started_at) != (record_id, opened_at):
                yield Finding("lease", f"its lease is of {lease.record_id}, {to_rfc3339(lease.started_at)}", record_id)

    def _records(self, connection: sqlite3.Connection, sums: sqlite3.Connection) -> Iterator[Finding]:
        """Every record up to the one that was last when the reading began, in the order of writing."""
        sums.execute(schema.HOURLY_TABLE)
        removed = self._removed(connection)
        expected = removed.through + 1
        if standing := connection.execute(
            "SELECT count(*) FROM usage_records WHERE seq <= ?", (removed.through,)
        ).fetchone()[0]:
            yield Finding("sequence", f"{standing} records up to {removed.through} stand, which retention removed")
        for page in reports.pages(self._path):
            for row in page.rows:
                if row[0] > expected:  # retention may have gone on meanwhile
                    expected = max(expected, self._removed(connection).through + 1)
                yield from self._record(row, expected)
                expected = row[0] + 1
            self._add_up(connection, sums, page.through)
            first = self.summary.first_seq if self.summary.records else page.rows[0][0] if page.rows else None
            records = self.summary.records + len(page.rows)
            self.summary = self.summary._replace(records=records, first_seq=first, last_seq=page.through)
        expected = max(expected, self._removed(connection).through + 1)
        if expected <= (self.summary.last_seq or 0):
            yield Finding("sequence", f"records {expected} to {self.summary.last_seq} are missing")
        yield from self._end(connection)

    def _record(self, row: tuple[Any, ...], expected: int) -> Iterator[Finding]:
        seq, record_id = row[0], str(row[1])
        if seq != expected:
            which = f"record {expected} is" if seq == expected + 1 else f"records {expected} to {seq - 1} are"
            yield Finding("sequence", f"{which} missing before this one, which is {seq}", record_id)
        try:
            record = from_row(COLUMNS, row[1:])
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            yield Finding("record", f"it can't be read: {error}", record_id)
            return
        for check, says in faults(record):
            yield Finding(check, says, record_id)

    def _end(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        """SQLite remembers the highest number that it gave away: a tail that was cut off shows by it."""
        last, given = connection.execute(
            "SELECT (SELECT max(seq) FROM usage_records), (SELECT seq FROM sqlite_sequence WHERE name='usage_records')"
        ).fetchone()
        last = last or self._removed(connection).through
        if last < (given or 0):
            yield Finding("sequence", f"the last records are missing: {given} were written, the last there is {last}")

    def _removed(self, connection: sqlite3.Connection) -> Removed:
        removed = ledger_reading.removed(connection)
        self.summary = self.summary._replace(removed_through=removed.through, removed_before=removed.before)
        return removed

    def _add_up(self, connection: sqlite3.Connection, sums: sqlite3.Connection, through: int) -> None:
        after = self.summary.last_seq or 0
        sums.executemany(schema.ADD_TO_HOUR, connection.execute(schema.HOURS_OF_RECORDS, (after, through)))

    def _hourly(self, connection: sqlite3.Connection, sums: sqlite3.Connection) -> Iterator[Finding]:
        """The hourly sums against those of the records, those added that came while this was reading.

        Of an hour whose records were removed, or some of them, the sums are no less than those of what is left.
        """
        connection.execute("BEGIN")
        try:
            self._add_up(connection, sums, 2**63 - 1)
            select = f"SELECT * FROM usage_hourly ORDER BY {', '.join(schema.HOURLY_ORDER)}"  # noqa: S608
            before = self._removed(connection).before
            yield from _differences(connection.execute(select), sums.execute(select), before)
        finally:
            connection.execute("ROLLBACK")


def _differences(stands: sqlite3.Cursor, added_up: sqlite3.Cursor, removed_before: int) -> Iterator[Finding]:
    """Both in the order of their keys. A row that only one side has is held against zeros."""
    names = [column[0] for column in added_up.description]
    width = len(schema.HOURLY_ORDER)
    order = [[column[0] for column in stands.description].index(name) for name in names]
    rows = (tuple(row[at] for at in order) for row in stands)
    left, right = next(rows, None), next(added_up, None)
    while left is not None or right is not None:
        key = min(row[:width] for row in (left, right) if row is not None)
        nothing = (0,) * (len(names) - width)
        have = left[width:] if left is not None and left[:width] == key else nothing
        want = right[width:] if right is not None and right[:width] == key else nothing
        if have != want and (key[0] * 1_000_000 >= removed_before or _less(names[width:], have, want)):
            yield Finding("hourly", _difference(key, names[width:], have, want))
        if left is not None and left[:width] == key:
            left = next(rows, None)
        if right is not None and right[:width] == key:
            right = next(added_up, None)


def _less(names: list[str], have: tuple[int, ...], want: tuple[int, ...]) -> bool:
    """Whether sums that never go down are less than what is left in them. Costs may: adjustments take off."""
    return any(had < wanted for name, had, wanted in zip(names, have, want, strict=True) if name != "cost_usd")


def _difference(key: tuple[Any, ...], names: list[str], have: tuple[int, ...], want: tuple[int, ...]) -> str:
    hour, *group = key
    told = []
    for name, had, wanted in zip(names, have, want, strict=True):
        if had != wanted:
            shown = (to_usd(had), to_usd(wanted)) if name == "cost_usd" else (str(had), str(wanted))
            told.append(f"{name} {shown[0]} and not {shown[1]}")
    of = ", ".join(f"{name} {value!r}" for name, value in zip(schema.HOURLY_KEYS, group, strict=True))
    begins = to_rfc3339(hour * 1_000_000)[:16]
    return f"the sums of the hour from {begins}Z ({of}) are not those of its records: {'; '.join(told)}"
