"""Reads usage records for an export, a page at a time, and goes on behind a cursor. Formats: export_formats.py."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from datetime import datetime

from proxy.billing import reports
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.records import COLUMNS
from proxy.billing.sources import Part, Row, Source, is_shipped, parts

START = "start"
"""The cursor before the first record."""
_PART = re.compile(r"([0-9a-f]{32}):([0-9]{1,18})")


class CursorRefused(Exception):
    """A cursor that leads nowhere; the text says why, and what to do."""


class Export:
    """Iterates over the rows of the ledger (seq, then COLUMNS), ledger file by ledger file, page by page in the order
    of writing.

    `cursor` is the text from which another export goes on: complete once the iteration has ended, and good for no more
    than the pages before the present one until then. It says up to which number each ledger file was read, so it is
    good wherever that file's records are read: the file itself, or PostgreSQL.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        since: datetime | None,
        until: datetime | None,
        after: str | None = None,
        columns: Container[str] = COLUMNS,
    ) -> None:
        """Of other columns than `columns`, None stands in the rows.

        Raises CursorRefused, LedgerUnusable, StoreError, ValueError for a time without a time zone."""
        self._sources = sources
        self._columns = columns
        self._within = reports.within(since, until)
        self._through = _parse(after or START)
        found = [(source, part) for source in sources for part in parts(source)]
        self._files = {part.file_id: (source, part) for source, part in found}
        if len(self._files) < len(found):
            raise LedgerUnusable(
                f"Two of {', '.join(map(str, sources))} are the same ledger file, copied. Move the copy elsewhere."
            )
        for file_id, through in self._through.items():
            self._check(file_id, through)
        self.missed = [
            (source, part.removed)
            for file_id, (source, part) in self._files.items()
            if part.removed.through > self._through.get(file_id, 0) and part.removed.before > self._within[0]
        ]
        """Of each ledger file in which there are some: records behind the cursor that retention removed."""
        self.unshipped = [
            file_id for file_id, through in self._through.items() if _last(self._files[file_id][1]) < through
        ]
        """Ledger files of which PostgreSQL has less than the cursor is behind: nothing of them can be new yet."""

    def _check(self, file_id: str, through: int) -> None:
        """Raises CursorRefused."""
        if file_id not in self._files:
            unshipped = (
                ", or has its node shipped nothing yet? Try again then, or export"
                if any(map(is_shipped, self._sources))
                else "? Export"
            )
            raise CursorRefused(
                f"the cursor speaks of a ledger file that isn't here ({file_id}): was it made by another "
                f"installation{unshipped} without it, from the start"
            )
        source, part = self._files[file_id]
        if _last(part) < through and not is_shipped(source):
            raise CursorRefused(
                f"the cursor is behind record {through} of {source}, which ends at {_last(part)}: was it restored from "
                "a backup? Export without the cursor, from the start"
            )

    def __iter__(self) -> Iterator[list[Row]]:
        for file_id, (source, part) in self._files.items():
            after = self._through.get(file_id, 0)
            for page in reports.pages(source, *self._within, after, self._columns, part=part):
                yield page.rows
                self._through[file_id] = page.through

    @property
    def cursor(self) -> str:
        return ",".join(f"{file_id}:{seq}" for file_id, seq in self._through.items()) or START


def _last(part: Part) -> int:
    """The number that the file has come to."""
    return part.last or part.removed.through


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
