"""What retention has removed from ledger files. It is the writer that removes: billing/ledger_writer.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from proxy.billing.records import to_rfc3339
from proxy.billing.reports import reading


class Removed(NamedTuple):
    """Every record up to the seq `through`: each of a call that started before `before`, in Unix microseconds."""

    through: int = 0
    before: int = 0


def removed(connection: Connection) -> Removed:
    """Of one file; nothing, where it is of a version that never removed anything."""
    found = connection.execute("SELECT * FROM file")
    names = [column[0] for column in found.description]
    row = dict(zip(names, found.fetchone(), strict=True))
    return Removed(row.get("removed_through", 0), row.get("removed_before", 0))


def records_since(files: Iterable[Path]) -> int:
    """From when on, in Unix microseconds, every call's record is there; 0: from the first. Raises LedgerUnusable."""
    before = 0
    for path in files:
        with reading(path) as connection:
            before = max(before, removed(connection).before)
    return before


def told(since: int) -> str:
    """What to say of calls before `since`, of which there may be no record any more."""
    return f"Records of calls from before {to_rfc3339(since)[:16]}Z were removed (storage.retention_days)"
