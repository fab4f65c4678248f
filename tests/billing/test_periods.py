"""Days are named in the operator's time zone, over changes of the clock too."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.periods import Days


def us(text: str, zone: str = "America/Los_Angeles") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000


def test_a_day_ends_at_midnight_in_its_zone() -> None:
    days = Days("America/Los_Angeles")
    midnight = us("2026-11-21T00:00")
    assert days.name(midnight - 1) == "2026-11-20"
    assert days.name(midnight) == "2026-11-21"


def test_the_day_on_which_the_clock_is_put_back_has_25_hours() -> None:
    days = Days("America/Los_Angeles")
    start = us("2026-11-01T00:00")
    assert days.name(start + 25 * 3_600_000_000 - 1) == "2026-11-01"
    assert days.name(start + 25 * 3_600_000_000) == "2026-11-02"


def test_the_end_of_a_day_is_the_next_midnight_however_long_the_day() -> None:
    days = Days("America/Los_Angeles")
    start = us("2026-11-01T00:00")
    for at in (start, start + 25 * 3_600_000_000 - 1):
        assert days.end(at) == start + 25 * 3_600_000_000


@given(
    st.lists(st.integers(0, 4_000_000_000), min_size=1, max_size=20),
    st.sampled_from(["UTC", "Asia/Kathmandu", "America/Los_Angeles"]),
)
def test_names_depend_on_the_time_alone_whatever_was_asked_before(seconds: list[int], zone: str) -> None:
    days = Days(zone)
    for at in seconds:
        assert days.name(at * 1_000_000) == str(
            (datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(seconds=at)).astimezone(ZoneInfo(zone)).date()
        )


def test_a_budgets_period_is_its_day_or_month_or_all_time() -> None:
    days = Days("America/Los_Angeles")
    at = us("2026-12-31T23:59")
    assert days.period_begin("day", at) == us("2026-12-31T00:00")
    assert days.period_begin("month", at) == us("2026-12-01T00:00")
    assert days.period_end("day", at) == days.period_end("month", at) == us("2027-01-01T00:00")
    assert days.period_begin("total", at) is days.period_end("total", at) is None


def test_threads_that_share_it_are_each_told_the_day_that_they_ask_for() -> None:
    """As where Redis was emptied: what was spent is looked up for many projects at once, each in a thread."""
    days = Days("America/Los_Angeles")
    wanted = {us(f"{day}T12:00"): (day, us(f"{day}T00:00")) for day in ("2026-11-21", "2026-11-19")}
    start = threading.Barrier(4)

    def ask(_: int) -> set[tuple[int, tuple[str, int]]]:
        start.wait()
        return {(at, (days.name(at), days.begin(at))) for at in [*wanted] * 25_000}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            told = set[tuple[int, tuple[str, int]]]().union(*threads.map(ask, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert told == set(wanted.items())
