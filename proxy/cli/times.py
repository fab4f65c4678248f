"""Times as people type them: a moment ("2026-11-01T12:00"), and how long something lasts ("30d", "12h")."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from proxy.cli.options import CommandError

_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_LONGEST_DAYS = 36_500


def moment(text: str | None, timezone: str) -> datetime | None:
    """A day or a time, in `timezone` unless it names its offset. Raises CommandError."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(timezone))
    except ValueError:
        raise CommandError(
            f"{text[:40]!r} is no time: write 2026-11-01, 2026-11-01T12:00 or 2026-11-01T12:00Z"
        ) from None


def period(since: str | None, until: str | None, timezone: str) -> tuple[datetime | None, datetime | None]:
    """From when to before when. Raises CommandError, also where it ends before it begins."""
    start, end = moment(since, timezone), moment(until, timezone)
    if start and end and end <= start:
        raise CommandError(f"nothing is from {since} on and before {until}: give --until a later time than --since")
    return start, end


def duration(text: str) -> int:
    """Microseconds. Raises CommandError; 0 needs no unit."""
    if text == "0":
        return 0
    found = re.fullmatch(r"([0-9]{1,12})([dhms])", text)
    if not found:
        raise CommandError(f"{text[:40]!r} is no duration: write a number and d, h, m or s: 30d, 12h, 90m, 45s")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST_DAYS * 86_400:
        raise CommandError(f"{text} is longer than a hundred years: write {_LONGEST_DAYS}d at most")
    return seconds * 1_000_000
