"""How far a ledger file is shipped, as its writer is told: a small file beside it, which the shipper writes."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from proxy.billing.periods import DAY_US

STAY_US = 7 * DAY_US
"""How old shipped records get in their ledger file: a backup of PostgreSQL that is no older loses nothing."""
STAY_FOR_MONTHS_US = 62 * DAY_US
"""The same where days begin within an hour of UTC: a month's budget begins with single records, not with sums."""


def stay_us(timezone: str) -> int:
    """How long shipped records stay in their ledger file, where limits are of this time zone: microseconds."""
    zone = ZoneInfo(timezone)
    offsets = (datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7))
    whole = all(offset is not None and not offset % timedelta(hours=1) for offset in offsets)
    return STAY_US if whole else STAY_FOR_MONTHS_US


def mark_of(path: Path) -> Path:
    """Where the mark of a ledger file stands."""
    return path.with_suffix(".shipped")


def write_mark(path: Path, file_id: str, through: int) -> None:
    """Says that PostgreSQL has every record of the file up to the number `through`. Raises OSError."""
    mark = mark_of(path)
    new = mark.with_suffix(".shipped-new")
    new.write_text(f"{file_id} {through}\n")
    new.replace(mark)


def marked_through(path: Path, file_id: str) -> int:
    """What the mark says, whenever it was written; 0 where it is of another file, or there is none."""
    with suppress(OSError, ValueError):
        marked_id, through = mark_of(path).read_text().split()
        if marked_id == file_id:
            return int(through)
    return 0


class Mark:
    """The mark of a file, as far as its writer may trust it: from when on it was written anew.

    What stood there before is of a database that may have been restored from a backup since, or exchanged.
    """

    def __init__(self, path: Path, file_id: str) -> None:
        self._path = path
        self._file_id = file_id
        self._found = self._written_at()

    def through(self) -> int:
        """The number of the last record that is known to be shipped; 0: none is."""
        if self._written_at() == self._found:
            return 0
        self._found = None
        return marked_through(self._path, self._file_id)

    def _written_at(self) -> tuple[int, int] | None:
        try:
            found = mark_of(self._path).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino
