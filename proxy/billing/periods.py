"""Calendar days of limits and bills, in the configured time zone."""

from __future__ import annotations

from datetime import date, datetime, timedelta
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

    def period_end(self, per: str, at: int) -> int | None:
        """When a budget's period ("day", "month", "total") ends; both in Unix microseconds; None: never."""
        if per == "total":
            return None
        if per == "day":
            return self.end(at)
        first = datetime.fromtimestamp(at / 1_000_000, self._zone).date().replace(day=1)
        return self._midnight((first + timedelta(days=32)).replace(day=1))

    def end(self, at: int) -> int:
        """When the day of a time ends; both in Unix microseconds."""
        self._seek(at)
        return self._until

    def month_begin(self, at: int) -> int:
        """When the month of a time began; both in Unix microseconds."""
        first = datetime.fromtimestamp(at / 1_000_000, self._zone).date().replace(day=1)
        return self._midnight(first)

    def _midnight(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp()) * 1_000_000

    def _seek(self, at: int) -> None:
        if not self._from <= at < self._until:
            day = datetime.fromtimestamp(at / 1_000_000, self._zone).date()
            self._from, self._until = self._midnight(day), self._midnight(day + timedelta(days=1))
            self._name = day.isoformat()
