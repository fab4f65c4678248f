"""Ledger files found, and opened to be read, also while a server writes them; and what each says of itself."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Container, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_file import describe
from proxy.billing.ledger_schema import refuse_newer
from proxy.billing.records import COLUMNS, UsageRecord

MADE_WITHIN_S = 5.0
"""What the maker of a file gets for its tables, before a reader says that it has none."""


_NAME = re.compile(r"([0-9]+|control)\.db", re.ASCII)


def ledger_files(data_dir: Path) -> list[Path]:
    """The ledger files of a data_dir, by slot. Raises OSError: a folder that may not be read is no empty bill.

    A copy that somebody put beside one, such as 0.backup.db, is none: its calls would count twice.
    """
    try:
        found = [path for path in (data_dir / "ledger").iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can't write and never checkpoints: two that do lose rows before SQLite 3.51.3.

    Raises LedgerUnusable, also for a file that is newer than this program.
    """
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            _await_tables(connection)
            refuse_newer(connection, path)
            yield connection
    except sqlite3.Error as error:
        raise LedgerUnusable(
            f"{path} can't be read: {describe(error)}. Is it a ledger file, and may you read it?"
        ) from error


def _await_tables(connection: sqlite3.Connection) -> None:
    """Of a file that another process has just begun to make. One that has none after that was lost, or its maker died:
    whoever asks it for a table is told so."""
    give_up = time.monotonic() + MADE_WITHIN_S
    while not connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").fetchone()[0]:
        if time.monotonic() > give_up:
            return
        time.sleep(0.01)


def file_id_of(connection: sqlite3.Connection) -> str:
    """Of a ledger file that was opened."""
    return str(connection.execute("SELECT file_id FROM file").fetchone()[0])


def listed(connection: sqlite3.Connection, columns: Container[str] = COLUMNS) -> str:
    """The select list of seq and COLUMNS, with NULL in place of other columns than these.

    Columns that a file of an older version lacks are their defaults.
    """
    present = {row[1] for row in connection.execute("PRAGMA table_info(usage_records)")}
    defaults = {field.name: field.default for field in msgspec.structs.fields(UsageRecord) if not field.required}
    lacking = {name: default for name, default in defaults.items() if name not in present}
    literals = {name: "NULL" if value is None else repr(value) for name, value in lacking.items()}
    return ", ".join(("seq", *(literals.get(name, name) if name in columns else "NULL" for name in COLUMNS)))


class Removed(NamedTuple):
    """Every record up to the seq `through`: each of a call that started before `before`, in Unix microseconds."""

    through: int = 0
    before: int = 0


def removed(connection: sqlite3.Connection) -> Removed:
    """Of one file; nothing, where it is of a version that never removed anything."""
    found = connection.execute("SELECT * FROM file")
    names = [column[0] for column in found.description]
    row = dict(zip(names, found.fetchone(), strict=True))
    return Removed(row.get("removed_through", 0), row.get("removed_before", 0))
