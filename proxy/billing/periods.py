"""Calendar days of limits and bills, in the configured time zone."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo


class Days:
    """Names the day that a time falls on. The day in force is kept: a call pays one comparison."""

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._from = self._until = 0
        self._name = ""

    def name(self, at: int) -> str:
        """The day ("2026-11-21") of a time in Unix microseconds."""
        self._seek(at)
        return self._name

    def begin(self, at: int) -> int:
        """When the day of a time began; both in Unix microseconds."""
        self._seek(at)
        return self._from

    def end(self, at: int) -> int:
        """When the day of a time ends; both in Unix microseconds."""
        self._seek(at)
        return self._until

    def _seek(self, at: int) -> None:
        if not self._from <= at < self._until:
            day = datetime.fromtimestamp(at / 1_000_000, self._zone).date()
            self._from, self._until = (
                int(datetime(d.year, d.month, d.day, tzinfo=self._zone).timestamp()) * 1_000_000
                for d in (day, day + timedelta(days=1))
            )
            self._name = day.isoformat()
