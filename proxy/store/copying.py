"""The database copied into another one, whole or not at all; and whether two of them say the same."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Result, Table, func, select, text

from proxy.store.database import Database
from proxy.store.tables import audit_events, keys, metadata, projects, revision

TABLES = tuple(table for table in metadata.sorted_tables if table is not revision)
"""Every table of the database, those first that others refer to. The revision is each database's own."""
BATCH = 500
"""Rows of one insert."""
LIMIT_S = 60.0
"""What a statement gets that reads a table whole."""
IDENTITIES: dict[Table, tuple[Column[Any], ...]] = {
    projects: (projects.c.name, projects.c.created_at),
    keys: (keys.c.id, keys.c.digest),
    audit_events: tuple(audit_events.columns),
}
"""What tells a row of these tables from all others, here and elsewhere. Every change of projects, keys and upstreams
leaves an audit event: a database that has them all has seen all changes."""


class Told(NamedTuple):
    """What a table holds: how many rows, and the same `digest` where they are the same, in whatever order."""

    rows: int
    digest: int


class TargetTaken(Exception):
    """The target isn't empty, and holds nothing of the source, or not all: a copy would mix two histories."""


class CopyDiffers(Exception):
    """What was copied isn't read back as it was. Nothing of it was kept."""


def copy(source: Database, target: Database) -> bool:
    """Puts every row into an empty database, and reads it back, in one transaction; False: all was there already.

    Rows stay as they are, so every key goes on working: its digest is the same. Raises TargetTaken, CopyDiffers,
    StoreError.
    """
    with source.reading(limit_s=LIMIT_S) as reading, target.writing() as writing:  # other writers wait from here on
        if not check(reading, writing):
            return False
        for table in TABLES:
            for rows in reading.execute(select(table)).mappings().partitions(BATCH):
                writing.execute(table.insert(), [dict(row) for row in rows])
            if _told(reading.execute(select(table))) != _told(writing.execute(select(table))):
                raise CopyDiffers(f"{table.name} can't be read back as it was written; nothing of it was kept")
        _count_on(writing)
    return True


def check(source: Connection, target: Connection) -> bool:
    """Whether the target is empty; False: it was filled from this source, of which it lacks nothing.

    Raises TargetTaken, which says what is there, or what lacks.
    """
    if all(target.execute(select(table).limit(1)).first() is None for table in TABLES):
        return True
    there = [table.name for table in IDENTITIES if _identities(target, table)]
    lacks = [
        f"{len(missing):,} of {len(wanted):,} {table.name.replace('_', ' ')}"
        for table in IDENTITIES
        if (missing := (wanted := _identities(source, table)) - _identities(target, table))
    ]
    if lacks:
        what = ", ".join(there) or "events"
        raise TargetTaken(f"it isn't empty (it has {what}), and lacks {' and '.join(lacks)} of the source")
    if not _identities(source, projects):
        raise TargetTaken("it isn't empty, and the source has no projects")
    return False


def told(database: Database) -> dict[str, Told]:
    """What each table holds, by its name. Raises StoreError."""
    with database.reading(limit_s=LIMIT_S) as connection:
        return {table.name: _told(connection.execute(select(table))) for table in TABLES}


def _identities(connection: Connection, table: Table) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in connection.execute(select(*IDENTITIES[table]))}


def _told(rows: Result[Any]) -> Told:
    count = digest = 0
    for row in rows:
        count += 1
        digest ^= int.from_bytes(sha256(repr(tuple(row)).encode()).digest())
    return Told(count, digest)


def _count_on(target: Connection) -> None:
    """Has ids that are counted go on behind those that were copied."""
    last = target.execute(select(func.max(audit_events.c.id))).scalar()
    if last is not None and target.dialect.name == "postgresql":
        target.execute(text("SELECT setval(pg_get_serial_sequence('audit_events', 'id'), :last)"), {"last": last})
