"""Calendar days of limits and bills, in the configured time zone."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY_US = 86_400_000_000
GOOGLES_ZONE = "America/Los_Angeles"
"""At whose midnight Google's daily quotas end (https://ai.google.dev/gemini-api/docs/rate-limits)."""


class _Day(NamedTuple):
    """From `begin` to before `end`, in Unix microseconds."""

    begin: int = 0
    end: int = 0
    name: str = ""


class Days:
    """Names the day that a time falls on. The day in force is kept: a call pays one comparison.

    Threads may share it: the day is exchanged whole, so that none gets the name of one with the begin of another.
    """

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._kept = _Day()

    def name(self, at: int) -> str:
        """The day ("2026-11-21") of a time in Unix microseconds."""
        return self._day(at).name

    def begin(self, at: int) -> int:
        """When the day of a time began; both in Unix microseconds."""
        return self._day(at).begin

    def end(self, at: int) -> int:
        """When the day of a time ends; both in Unix microseconds."""
        return self._day(at).end

    def period_begin(self, per: str, at: int) -> int | None:
        """When a budget's period ("day", "month", "total") began; both in Unix microseconds; None: it is for ever."""
        if per == "total":
            return None
        return self.begin(at) if per == "day" else self._midnight(self._first_of_month(at))

    def period_end(self, per: str, at: int) -> int | None:
        """When it ends, likewise."""
        if per == "total":
            return None
        next_month = (self._first_of_month(at) + timedelta(days=32)).replace(day=1)
        return self.end(at) if per == "day" else self._midnight(next_month)

    def _first_of_month(self, at: int) -> date:
        return datetime.fromtimestamp(at / 1_000_000, self._zone).date().replace(day=1)

    def _midnight(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp()) * 1_000_000

    def _day(self, at: int) -> _Day:
        kept = self._kept
        if not kept.begin <= at < kept.end:
            day = datetime.fromtimestamp(at / 1_000_000, self._zone).date()
            kept = _Day(self._midnight(day), self._midnight(day + timedelta(days=1)), day.isoformat())
            self._kept = kept
        return kept
