"""Records of a ledger file into PostgreSQL: read by pages, inserted once, summed, all in the cursor's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from sqlalchemy import BigInteger, Connection, Table, text

from proxy.billing import ledger_schema as schema
from proxy.billing import partitions
from proxy.billing.jobs import NOW_US
from proxy.billing.ledger_reading import listed, removed
from proxy.billing.ledger_tables import file_spendings, usage_hourly, usage_records
from proxy.billing.partitions import Partition
from proxy.billing.records import COLUMNS
from proxy.billing.removed_sums import removed_sums
from proxy.store.database import Database, StoreError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

PAGE_RECORDS = 1_000
PAGE_BYTES = 4 << 20
"""What one transaction takes at most: it locks the sums of its hours for as long as it takes, some 40 ms."""
LIMIT_S = 30.0
"""What a statement gets: more than a writer that died can hold the sums it waits for."""
LIVE_US = 60_000_000
"""How long a file counts as written by a worker after that was last said."""
LONGEST_TIER = 200
"""Characters of a service tier, which an upstream may answer at any length, and PostgreSQL has in an index."""
ROW_FAULTS = ("22", "23", "54")
"""Classes of what PostgreSQL says against a row: a value that it can't hold, a constraint, a limit of its own."""
NO_PARTITION = "23514"


class Cursor(NamedTuple):
    """How far a file is shipped: through the record with that number and id; "" where the id isn't known."""

    seq: int = 0
    record_id: str = ""


class Row(NamedTuple):
    """A record to be shipped: `values` by column."""

    seq: int
    record_id: str
    started_at: int
    values: dict[str, Any]


class Lack(NamedTuple):
    """Why a file can't be shipped from where it is shipped through; and the number from which it can."""

    through: int
    missing: int
    """Records removed from the file before PostgreSQL had them; 0: the file isn't the one that was shipped."""
    before: int = 0
    """They are all of calls that started before this Unix microsecond."""
    sums: Sequence[dict[str, Any]] = ()
    """What the file's hourly sums hold of them: known where PostgreSQL has nothing of the file yet."""


class Moved(Exception):
    """The cursor isn't where it was: another process shipped the file, or the database was restored."""


def lack(connection: sqlite3.Connection, cursor: Cursor, day_of: Callable[[int], str]) -> Lack | None:
    """Whether the file goes on where PostgreSQL's records of it end; None: it does.

    `day_of` names the day of a time in Unix microseconds. The file must be up to date.
    """
    gone, before = removed(connection)
    if cursor.seq < gone:
        if cursor == Cursor():
            return _never_shipped(connection, day_of)
        return Lack(gone, gone - cursor.seq, before)
    found = connection.execute("SELECT record_id FROM usage_records WHERE seq = ?", (cursor.seq,)).fetchone()
    if found is None:
        return None if cursor.seq == gone else Lack(gone, 0)
    return None if cursor.record_id in ("", found[0]) else Lack(gone, 0)


def _never_shipped(connection: sqlite3.Connection, day_of: Callable[[int], str]) -> Lack:
    connection.execute("BEGIN")  # retention may go on meanwhile: the sums are of what is gone by now
    try:
        gone = removed(connection)
        return Lack(gone.through, gone.through, gone.before, removed_sums(connection, day_of))
    finally:
        connection.execute("ROLLBACK")


def dropped_of(database: Database, file: sqlite3.Connection, cursor: Cursor) -> int:
    """The number up to which all that a file has was shipped, and dropped by retention since; 0: nothing was.

    For a file that went back: what is dropped can't be passed over by its id, and would be added to the sums again.
    Whatever has no higher number than was shipped through, and belongs into a month that was dropped, counts as
    shipped; and what stands among that, as calls at a month's end do, where PostgreSQL has all of it.

    Raises StoreError.
    """
    with database.reading(limit_s=LIMIT_S) as postgres:
        before = partitions.dropped_before(postgres)
        old = file.execute(
            "SELECT seq FROM usage_records WHERE started_at < ? AND seq <= ? ORDER BY seq DESC LIMIT 1",
            (before, cursor.seq),
        ).fetchone()
        if old is None:
            return 0
        found = file.execute(
            "SELECT seq, record_id FROM usage_records WHERE started_at >= ? AND seq < ? ORDER BY seq LIMIT ?",
            (before, old[0], PAGE_RECORDS),
        ).fetchall()
        there = postgres.execute(_THERE, {"record_ids": [record_id for _, record_id in found]}).scalar_one()
    return int(old[0] if there == len(found) < PAGE_RECORDS else found[0][0] - 1)


def read_page(connection: sqlite3.Connection, file_id: str, after: int) -> list[Row]:
    """The next records behind a number, in the order of writing; columns that an older file lacks are their defaults.

    At most PAGE_RECORDS; fewer where they are large.
    """
    rows: list[Row] = []
    size = 0
    select = f"SELECT {listed(connection)} FROM usage_records WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
    for found in connection.execute(select, (after, PAGE_RECORDS)):
        values = dict(zip(_NAMES, found, strict=True))
        values["file_id"] = file_id
        rows.append(Row(values["seq"], values["record_id"], values["started_at"], values))
        size += sum(len(value) for value in found if isinstance(value, str))
        if size >= PAGE_BYTES:
            break
    return rows


class Shipping:
    """Puts pages of records into PostgreSQL. Blocking; used by one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._made: set[Partition] = set()

    def ship(self, file_id: str, after: Cursor, rows: Sequence[Row]) -> Cursor:
        """Inserts the rows that follow `after` in the file, and moves the file's cursor, in one transaction.

        What is there already is passed over, in the sums, too. What PostgreSQL refuses is put into refused_records as
        it is, and told: it holds up nothing. Returns the new cursor. Raises Moved, StoreError.
        """
        try:
            return self._put(file_id, after, rows)
        except StoreError as error:
            if not error.sqlstate.startswith(ROW_FAULTS):
                raise
            why = str(error)
        if len(rows) == 1:
            return self._refuse(file_id, after, rows[0], why)
        half = len(rows) // 2
        return self.ship(file_id, self.ship(file_id, after, rows[:half]), rows[half:])

    def _put(self, file_id: str, after: Cursor, rows: Sequence[Row]) -> Cursor:
        self._make_partitions(rows)
        try:
            return self._commit(file_id, after, rows)
        except StoreError as error:
            if error.sqlstate != NO_PARTITION:
                raise
            self._made.clear()  # retention has dropped one
            self._make_partitions(rows)
            return self._commit(file_id, after, rows)

    def _make_partitions(self, rows: Iterable[Row]) -> None:
        months = {partitions.partition_of(at) for at in {row.started_at for row in rows}}
        if new := months - self._made:
            partitions.make(self._database, sorted(new, key=lambda one: one.name))
            self._made |= new

    def _commit(self, file_id: str, after: Cursor, rows: Sequence[Row]) -> Cursor:
        with self._database.noting(limit_s=LIMIT_S) as connection:
            through = _move(connection, file_id, after, Cursor(rows[-1].seq, rows[-1].record_id))
            connection.execute(_INSERT, {"rows": encoded([row.values for row in rows])})
        return through

    def _refuse(self, file_id: str, after: Cursor, row: Row, why: str) -> Cursor:
        log.error("ledger_record_refused", file_id=file_id, seq=row.seq, record_id=row.record_id, why=why)
        record = json.dumps(row.values)
        values = {"file_id": file_id, "seq": row.seq, "record_id": row.record_id, "why": why[:1000], "record": record}
        with self._database.noting(limit_s=LIMIT_S) as connection:
            through = _move(connection, file_id, after, Cursor(row.seq, row.record_id))
            connection.execute(_REFUSE, {name: _storable(value) for name, value in values.items()})
        return through

    def restart(self, file_id: str, at: Cursor, lack: Lack) -> Cursor:
        """Moves the cursor to where the file can be shipped from; sums that came with what lacks are added, once.

        From when on every record is there is known by `removed_partitions`: that these aren't, is noted there.

        Raises Moved, StoreError.
        """
        with self._database.noting(limit_s=LIMIT_S) as connection:
            through = _move(connection, file_id, at, Cursor(lack.through), lack.missing)
            if lack.missing:
                connection.execute(_NOTE_REMOVED, {"name": f"file {file_id}", "removed_before": lack.before})
            for begin in range(0, len(lack.sums), PAGE_RECORDS):
                rows = {"rows": encoded([*lack.sums[begin : begin + PAGE_RECORDS]]), "file_id": file_id}
                connection.execute(_INSERT_SUMS, rows)
        return through


class Place(NamedTuple):
    """Where a file is."""

    node: str
    slot: str


def look(database: Database, places: Mapping[str, Place], live: Iterable[str]) -> dict[str, Cursor]:
    """How far each file is shipped, by its id; makes those known that aren't. `live`: ids of those with a live worker,
    which is told to all who share the database. Raises StoreError."""
    live = set(live)
    with database.noting() as connection:
        for file_id, place in sorted(places.items()):
            connection.execute(_SEEN[file_id in live], {"file_id": file_id, **place._asdict()})
        found = connection.execute(_CURSORS, {"file_ids": list(places)})
        return {file_id: Cursor(seq, record_id) for file_id, seq, record_id in found}


def live(database: Database) -> set[str]:
    """The ids of files that somebody's worker wrote a minute ago or later. Raises StoreError."""
    with database.reading() as connection:
        return set(connection.scalars(_LIVE))


def encoded(rows: list[dict[str, Any]]) -> str:
    """Rows as one JSON array, in which PostgreSQL can hold every text."""
    document = _encode(rows)
    if rb"\u0000" in document or any(len(row["service_tier"] or "") > LONGEST_TIER for row in rows):
        document = _encode([{name: _storable(value, name) for name, value in row.items()} for row in rows])
    return document.decode()


def _storable(value: Any, column: str = "") -> Any:
    """PostgreSQL's texts hold every character but NUL: the symbol for it stands in its place."""
    if not isinstance(value, str):
        return value
    return value.replace("\0", "\N{SYMBOL FOR NULL}")[: LONGEST_TIER if column == "service_tier" else None]


def _move(connection: Connection, file_id: str, at: Cursor, to: Cursor, missing: int = 0) -> Cursor:
    """Locks the file's cursor, and with it the file: whoever ships it, too, waits here, and finds it moved."""
    values = {"file_id": file_id, "seq": at.seq, "record_id": at.record_id, "missing": missing}
    moved = connection.execute(_MOVE, values | {"to_seq": to.seq, "to_record_id": to.record_id})
    if not moved.rowcount:
        raise Moved
    return to


_encode = msgspec.json.Encoder().encode
_NAMES = ("seq", *COLUMNS)
_ALL = ", ".join((*_NAMES, "file_id"))
_TYPED = ", ".join(
    f"{column.name} {'bigint' if isinstance(column.type, BigInteger) else 'text'}" for column in usage_records.columns
)


def _added(table: Table, sums: Iterable[str]) -> str:
    """What adds to the sums of a table's row, where it has it already."""
    key = ", ".join(column.name for column in table.primary_key)
    added = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in sums)
    return f"ON CONFLICT ({key}) DO UPDATE SET {added}"


# Sums are locked in the order of their keys, so that shippers of several nodes wait for each other in one direction.
_INSERT = text(
    f"""
    WITH inserted AS (
        INSERT INTO usage_records ({_ALL}) SELECT {_ALL} FROM json_to_recordset(CAST(:rows AS json)) AS row ({_TYPED})
        ON CONFLICT (started_at, record_id) DO NOTHING RETURNING *
    ), hourly AS (
        INSERT INTO usage_hourly ({", ".join((*schema.HOURLY_ORDER, *schema.HOURLY_SUMS))})
        SELECT {schema.HOUR_OF_NEW}, {schema.KEYS_OF_NEW}, {schema.SUMS_OF_NEW}
        FROM inserted AS new GROUP BY {schema.HOUR_OF_NEW}, {schema.KEYS_OF_NEW}
        ORDER BY {schema.HOUR_OF_NEW}, {schema.KEYS_OF_NEW}
        {_added(usage_hourly, schema.HOURLY_SUMS)}
    )
    INSERT INTO file_spendings (file_id, period, project, key_id, model, cost_usd)
    SELECT file_id, period, project, key_id, model, sum(coalesce(cost_usd, 0)) FROM inserted
    GROUP BY file_id, period, project, key_id, model
    {_added(file_spendings, ["cost_usd"])}"""  # noqa: S608
)
_SUMS = ", ".join(schema.HOURLY_SUMS)
_KEYS = ", ".join(schema.HOURLY_ORDER)
_TYPED_SUMS = ", ".join(
    f"{column.name} {'bigint' if isinstance(column.type, BigInteger) else 'text'}" for column in usage_hourly.columns
)
_INSERT_SUMS = text(
    f"""
    WITH removed AS (
        SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS row ({_TYPED_SUMS}, period text)
    ), hourly AS (
        INSERT INTO usage_hourly ({_KEYS}, {_SUMS})
        SELECT {_KEYS}, {", ".join(f"sum({name})" for name in schema.HOURLY_SUMS)} FROM removed
        GROUP BY {_KEYS} ORDER BY {_KEYS}
        {_added(usage_hourly, schema.HOURLY_SUMS)}
    )
    INSERT INTO file_spendings (file_id, period, project, key_id, model, cost_usd)
    SELECT :file_id, period, project, key_id, model, sum(cost_usd) FROM removed GROUP BY period, project, key_id, model
    {_added(file_spendings, ["cost_usd"])}"""  # noqa: S608
)
_MOVE = text(
    "UPDATE shipped SET through_seq = :to_seq, through_record_id = :to_record_id, missing = missing + :missing"
    " WHERE file_id = :file_id AND through_seq = :seq AND through_record_id = :record_id"
)
_CURSORS = text("SELECT file_id, through_seq, through_record_id FROM shipped WHERE file_id = ANY(:file_ids)")
_THERE = text("SELECT count(DISTINCT record_id) FROM usage_records WHERE record_id = ANY(:record_ids)")
_LIVE = text(f"SELECT file_id FROM shipped WHERE seen_at > {NOW_US} - {LIVE_US}")  # noqa: S608
_SEEN = {
    live: text(
        f"INSERT INTO shipped VALUES (:file_id, 0, '', 0, :node, :slot, {NOW_US if live else 0})"  # noqa: S608
        " ON CONFLICT (file_id) DO UPDATE SET node = excluded.node, slot = excluded.slot"
        + (
            ", seen_at = excluded.seen_at"
            if live
            else " WHERE (shipped.node, shipped.slot) <> (excluded.node, excluded.slot)"
        )
    )
    for live in (True, False)
}
_NOTE_REMOVED = text(
    "INSERT INTO removed_partitions VALUES (:name, :removed_before) ON CONFLICT (name) DO UPDATE"
    " SET removed_before = greatest(removed_partitions.removed_before, excluded.removed_before)"
)
_REFUSE = text("INSERT INTO refused_records VALUES (:file_id, :seq, :record_id, :why, :record) ON CONFLICT DO NOTHING")
