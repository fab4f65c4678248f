"""Reads usage records for an export, a page at a time, and goes on behind a cursor. Formats: export_formats.py."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from proxy.billing import reports, retention
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.records import COLUMNS
from proxy.billing.retention import Removed

START = "start"
"""The cursor before the first record."""
_PART = re.compile(r"([0-9a-f]{32}):([0-9]{1,18})")


class CursorRefused(Exception):
    """A cursor that leads nowhere; the text says why, and what to do."""


class Export:
    """Iterates over the rows of ledger files (seq, then COLUMNS), page by page in the order of writing.

    `cursor` is the text from which another export goes on: complete once the iteration has ended, and good for no more
    than the pages before the present one until then.
    """

    def __init__(
        self,
        files: Sequence[Path],
        since: datetime | None,
        until: datetime | None,
        after: str | None = None,
        columns: Container[str] = COLUMNS,
    ) -> None:
        """Of other columns than `columns`, None stands in the rows.

        Raises CursorRefused, LedgerUnusable, ValueError for a time without a time zone."""
        self._columns = columns
        self._within = reports.within(since, until)
        self._through = _parse(after or START)
        self._files = {_file_id(path): path for path in files}
        if len(self._files) < len(files):
            raise LedgerUnusable(
                f"Two of {', '.join(map(str, files))} are the same ledger file, copied. Move the copy elsewhere."
            )
        if gone := self._through.keys() - self._files.keys():
            raise CursorRefused(
                f"the cursor speaks of a ledger file that isn't here ({', '.join(sorted(gone))}): was it made by "
                "another installation? Export without it, from the start"
            )
        for file_id, through in self._through.items():
            _check_reached(self._files[file_id], through)
        self.missed = [
            (path, found)
            for file_id, path in self._files.items()
            if (found := _missed(path, self._through.get(file_id, 0), self._within[0]))
        ]
        """Of each file in which there are some: records behind the cursor that retention removed."""

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        for file_id, path in self._files.items():
            for page in reports.pages(path, *self._within, after=self._through.get(file_id, 0), columns=self._columns):
                yield page.rows
                self._through[file_id] = page.through

    @property
    def cursor(self) -> str:
        return ",".join(f"{file_id}:{seq}" for file_id, seq in self._through.items()) or START


def _parse(cursor: str) -> dict[str, int]:
    text = cursor.strip()
    if text == START:
        return {}
    parts = [_PART.fullmatch(part) for part in text.split(",")]
    found = {part[1]: int(part[2]) for part in parts if part}
    if len(found) != len(parts):
        raise CursorRefused(
            f"{text[:80]!r} is no cursor: give the one that the export before printed last on standard error"
        )
    return found


def _file_id(path: Path) -> str:
    with reports.reading(path) as connection:
        return str(connection.execute("SELECT file_id FROM file").fetchone()[0])


def _check_reached(path: Path, through: int) -> None:
    with reports.reading(path) as connection:
        last = connection.execute("SELECT max(seq) FROM usage_records").fetchone()[0]
        last = last or retention.removed(connection).through
    if last < through:
        raise CursorRefused(
            f"the cursor is behind record {through} of {path}, which ends at {last}: was it restored from a backup? "
            "Export without the cursor, from the start"
        )


def _missed(path: Path, through: int, since: int) -> Removed | None:
    with reports.reading(path) as connection:
        removed = retention.removed(connection)
    return removed if removed.through > through and removed.before > since else None
