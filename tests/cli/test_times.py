"""Moments and durations as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.cli.options import CommandError
from proxy.cli.times import duration, moment


@pytest.mark.parametrize(
    ("text", "lasts"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("0", timedelta(0)),
        ("0d", timedelta(0)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, lasts: timedelta) -> None:
    assert timedelta(microseconds=duration(text)) == lasts


@pytest.mark.parametrize("text", ["", "30", "d", "30 d", "30D", "1.5h", "-1d", "30d12h", "1w", "٣d", "9" * 5000 + "d"])
def test_what_is_no_duration_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(CommandError, match="is no duration: write a number and d, h, m or s: 30d, 12h") as caught:
        duration(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["36501d", "999999999999s"])
def test_a_duration_that_no_calendar_holds_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="write 36500d at most"):
        duration(text)


def test_a_moment_is_in_the_zone_that_is_configured_unless_it_names_its_offset() -> None:
    assert moment("2026-11-01", "UTC") == datetime(2026, 11, 1, tzinfo=UTC)
    assert moment("2026-12-01T12:00", "America/Los_Angeles") == datetime(2026, 12, 1, 20, tzinfo=UTC)
    assert moment("2026-12-01T12:00Z", "America/Los_Angeles") == datetime(2026, 12, 1, 12, tzinfo=UTC)
    assert moment(None, "UTC") is None


def test_what_is_no_moment_is_refused_with_what_to_write() -> None:
    with pytest.raises(CommandError, match="'tomorrow' is no time: write 2026-11-01"):
        moment("tomorrow", "UTC")
