"""The tables of a ledger file, made and brought up to date: leases, usage_records, usage_hourly, file."""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from types import NoneType
from typing import get_args

import msgspec

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.records import COLUMNS, UsageRecord

SCHEMA_VERSION = 3
"""Goes up with every column, table or index that is added. A file with a higher one is refused."""

HOURLY_KEYS = ("project", "key_id", "model", "operation", "upstream", "service_tier", "outcome", "estimated")

_INPUT = "coalesce(NEW.prompt_token_count, 0) + coalesce(NEW.tool_use_prompt_token_count, 0)"
# `output_token_count` is what is left of the total: candidates, thoughts, and whatever else the model wrote.
HOURLY_SUMS: dict[str, str] = {
    "calls": "CASE WHEN NEW.kind IN ('call', 'turn', 'collected') THEN 1 ELSE 0 END",
    "prompt_token_count": "coalesce(NEW.prompt_token_count, 0)",
    "cached_content_token_count": "coalesce(NEW.cached_content_token_count, 0)",
    "tool_use_prompt_token_count": "coalesce(NEW.tool_use_prompt_token_count, 0)",
    "thoughts_token_count": "coalesce(NEW.thoughts_token_count, 0)",
    "candidates_token_count": "coalesce(NEW.candidates_token_count, 0)",
    "output_token_count": (
        "CASE WHEN NEW.total_token_count IS NULL"
        " THEN coalesce(NEW.candidates_token_count, 0) + coalesce(NEW.thoughts_token_count, 0)"
        f" WHEN NEW.total_token_count > {_INPUT} THEN NEW.total_token_count - ({_INPUT}) ELSE 0 END"
    ),
    "images": "NEW.images",
    "searches": "NEW.searches",
    "cost_usd": "coalesce(NEW.cost_usd, 0)",
    "unpriced_calls": "CASE WHEN NEW.cost_usd IS NULL THEN 1 ELSE 0 END",
}
"""What usage_hourly adds up, and what one record adds to it: SQL that SQLite and PostgreSQL read alike."""

HOURLY_ORDER = ("hour", *HOURLY_KEYS)
FILE_REMOVED = dict.fromkeys(("removed_through", "removed_before"), "INTEGER NOT NULL DEFAULT 0")
"""What retention removed: every record up to this seq, all of calls that started before this Unix microsecond."""
TRIGGERS = frozenset(
    ("usage_records_no_update", "usage_records_no_delete", "usage_records_no_replace", "usage_records_hourly")
)


def bring_up_to_date(connection: sqlite3.Connection, file_id: str) -> None:
    """Makes what the file lacks, in one transaction. The file must not be newer: see `refuse_newer`."""
    connection.execute("BEGIN IMMEDIATE")
    _create_tables(connection)
    _add_columns(connection, "file", FILE_REMOVED)
    _add_columns(connection, "usage_records", record_columns())
    _add_columns(connection, "usage_hourly", _hourly_columns())
    _create_triggers(connection)
    # A call is asked for by the id of its request, whose records, and their adjustments, may be far apart.
    connection.execute("CREATE INDEX IF NOT EXISTS usage_records_request_id ON usage_records (request_id)")
    # A call is found by its time through its id; what is no call has an index, which costs calls nothing.
    connection.execute(
        "CREATE INDEX IF NOT EXISTS usage_records_no_call ON usage_records (started_at)"
        " WHERE kind NOT IN ('call', 'turn')"
    )
    connection.execute(
        "INSERT INTO file (one, file_id, schema_version) VALUES (1, ?, ?)"
        " ON CONFLICT (one) DO UPDATE SET schema_version = excluded.schema_version",
        (file_id, SCHEMA_VERSION),
    )
    connection.execute("COMMIT")


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version that the file bears; 0 for an empty one."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'file'").fetchone() is None:
        return 0
    row = connection.execute("SELECT schema_version FROM file").fetchone()
    return int(row[0]) if row else 0


def refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    """Raises LedgerUnusable for a file that a newer version has made its own: this one may misread it."""
    if (version := version_of(connection)) > SCHEMA_VERSION:
        raise LedgerUnusable(
            f"{path} was written by a newer version of this program (its schema is {version}, this program knows up"
            f" to {SCHEMA_VERSION}). Run the newer version."
        )


@cache
def record_columns() -> dict[str, str]:
    """The declaration of each column of usage_records, as SQLite has it."""
    return {field.name: _declaration(field) for field in msgspec.structs.fields(UsageRecord)}


def _hourly_columns() -> dict[str, str]:
    keys = {key: "INTEGER NOT NULL" if key == "estimated" else "TEXT NOT NULL" for key in HOURLY_KEYS}
    return {"hour": "INTEGER NOT NULL", **keys, **dict.fromkeys(HOURLY_SUMS, "INTEGER NOT NULL DEFAULT 0")}


def _declaration(field: msgspec.structs.FieldInfo) -> str:
    """A field's column: numbers and truth values as INTEGER, all else as TEXT; NOT NULL unless its type allows None."""
    sql = "INTEGER" if field.type in (int, bool, int | None) else "TEXT"
    if NoneType in get_args(field.type):
        return sql
    if field.required:
        return f"{sql} NOT NULL"
    return f"{sql} NOT NULL DEFAULT {int(field.default) if sql == 'INTEGER' else repr(field.default)}"


def _listed(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} {declaration}" for name, declaration in columns.items())


def _create_tables(connection: sqlite3.Connection) -> None:
    records = _listed(record_columns() | {"record_id": "TEXT NOT NULL UNIQUE"})
    connection.execute(
        "CREATE TABLE IF NOT EXISTS file"
        " (one INTEGER PRIMARY KEY CHECK (one = 1), file_id TEXT NOT NULL, schema_version INTEGER NOT NULL) STRICT"
    )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS leases"
        " (record_id TEXT PRIMARY KEY, opened_at INTEGER NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID"
    )
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS usage_records (seq INTEGER PRIMARY KEY AUTOINCREMENT, {records}) STRICT"
    )
    connection.execute(HOURLY_TABLE)


def _add_columns(connection: sqlite3.Connection, table: str, columns: dict[str, str]) -> None:
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    for name in columns.keys() - present:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")


def _create_triggers(connection: sqlite3.Connection) -> None:
    """Made anew at every open, so that they speak of the columns as they are now."""
    # REMOVE_THROUGH says first what goes: from the oldest on, and known to whoever verifies the file.
    kept = "WHEN OLD.seq > (SELECT removed_through FROM file)"
    for verb, when in (("UPDATE", ""), ("DELETE", kept)):
        name = f"usage_records_no_{verb.lower()}"
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        connection.execute(
            f"CREATE TRIGGER {name} BEFORE {verb} ON usage_records {when} BEGIN"
            " SELECT RAISE(ABORT, 'usage_records is insert-only: a correction is a row of its own'); END"
        )
    # What REPLACE deletes fires no DELETE trigger: https://sqlite.org/lang_createtrigger.html, recursive_triggers.
    connection.execute("DROP TRIGGER IF EXISTS usage_records_no_replace")
    connection.execute(
        "CREATE TRIGGER usage_records_no_replace BEFORE INSERT ON usage_records"
        " WHEN EXISTS (SELECT 1 FROM usage_records WHERE record_id = NEW.record_id OR seq = NEW.seq)"
        " BEGIN SELECT RAISE(IGNORE); END"
    )
    connection.execute("DROP TRIGGER IF EXISTS usage_records_hourly")
    connection.execute(_hourly_trigger())


def _hourly_trigger() -> str:
    """Adds a record to its hour in the statement that inserts it, and only if it is inserted."""
    return f"""
        CREATE TRIGGER usage_records_hourly AFTER INSERT ON usage_records BEGIN
            {_ADD} VALUES ({HOUR_OF_NEW}, {KEYS_OF_NEW}, {", ".join(HOURLY_SUMS.values())}) {_TO_SUMS};
        END"""  # noqa: S608


HOUR_OF_NEW = "NEW.started_at / 3600000000 * 3600"
SUMS_OF_NEW = ", ".join(f"sum({sql})" for sql in HOURLY_SUMS.values())
KEYS_OF_NEW = ", ".join(f"coalesce(NEW.{key}, '')" if key == "service_tier" else f"NEW.{key}" for key in HOURLY_KEYS)
_ADD = f"INSERT INTO usage_hourly ({', '.join((*HOURLY_ORDER, *HOURLY_SUMS))})"
_TO_SUMS = f"""
    ON CONFLICT ({", ".join(HOURLY_ORDER)})
    DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in HOURLY_SUMS)}"""

HOURLY_TABLE = (
    f"CREATE TABLE IF NOT EXISTS usage_hourly ({_listed(_hourly_columns())},"
    f" PRIMARY KEY ({', '.join(HOURLY_ORDER)})) STRICT, WITHOUT ROWID"
)
ADD_TO_HOUR = f"{_ADD} VALUES ({', '.join('?' * (len(HOURLY_ORDER) + len(HOURLY_SUMS)))}) {_TO_SUMS}"
HOURS_OF_RECORDS = f"""
    SELECT {HOUR_OF_NEW}, {KEYS_OF_NEW}, {SUMS_OF_NEW}
    FROM usage_records AS NEW WHERE seq > ? AND seq <= ? GROUP BY {HOUR_OF_NEW}, {KEYS_OF_NEW}"""  # noqa: S608
"""What the records behind one seq, up to another, add to which hours: rows for ADD_TO_HOUR."""

OLDEST = """
    SELECT seq, started_at, max(started_at, coalesce(finished_at, started_at)) FROM usage_records
    ORDER BY seq LIMIT ?"""
REMOVE_THROUGH = (
    "UPDATE file SET removed_through = :through, removed_before = max(removed_before, :before)",
    "DELETE FROM usage_records WHERE seq <= :through",
)
"""In one transaction: the hourly sums keep what they have."""
INSERT_LEASE = """
    INSERT INTO leases (record_id, opened_at, record) VALUES (?, ?, ?)
    ON CONFLICT (record_id) DO UPDATE SET record = excluded.record"""
DELETE_LEASE = "DELETE FROM leases WHERE record_id = ?"
INSERT_RECORD = f"""
    INSERT INTO usage_records ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
    ON CONFLICT (record_id) DO NOTHING"""  # noqa: S608
