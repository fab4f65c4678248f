"""What limits read again from a ledger file, and how little of it they read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from proxy.billing import recent
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.recent import Spending, Tally, UpstreamTally
from tests.billing.sample import NOON, sample
from tests.billing.steps import Steps

MINUTE = 60_000_000
DAY = "2026-11-21"


async def written(folder: Path, *starts: int) -> Path:
    """A ledger file of calls that started then, and ended in that order."""
    ledger = Ledger.open(folder, now_us=lambda: NOON, on_broken=lambda broken: None, ballast_bytes=0)
    for number, at in enumerate(starts):
        await ledger.write(sample(f"{number}", started_at=at, finished_at=at + MINUTE))
    await ledger.close()
    return folder / "ledger" / "0.db"


async def test_an_empty_file_has_no_calls(tmp_path: Path) -> None:
    file = await written(tmp_path)
    assert recent.tallies(file, DAY, NOON) == []
    assert recent.calls(file, NOON) == []


async def test_calls_are_found_whatever_clock_wrote_them(tmp_path: Path) -> None:
    """Also where it was set back by an hour in between, so that later records bear earlier times."""
    hours = [NOON + hour * 60 * MINUTE for hour in (-30, -20, -3, -2, -3, -1, 0, -1)]
    file = await written(tmp_path, *hours)
    assert [call.started_at for call in recent.calls(file, NOON - 60 * MINUTE)] == [hours[5], hours[6], hours[7]]
    assert recent.tallies(file, DAY, NOON - 60 * MINUTE) == [Tally("acme", "k1", "gemini-2.5-flash-image", 6)]


async def test_what_upstreams_did_is_told_by_their_names(tmp_path: Path) -> None:
    """Calls by model between two times; money by second, of what has a price."""
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=lambda broken: None, ballast_bytes=0)
    rows = [
        sample("a", started_at=NOON - 1),
        sample("b", started_at=NOON, upstream="other", model="gemini-3.8-flash", cost_usd=3),
        sample("c", started_at=NOON + 1, cost_usd=4),
        sample("d", started_at=NOON + 999_999, cost_usd=5),
        sample("e", started_at=NOON + 1_000_000, cost_usd=None),
        sample("f", kind="adjustment", started_at=NOON + 1, cost_usd=99),
    ]
    for row in rows:
        await ledger.write(row)
    await ledger.close()
    file = tmp_path / "ledger" / "0.db"
    assert sorted(recent.upstream_tallies(file, NOON, NOON + 1_000_000)) == [
        UpstreamTally("google", "gemini-2.5-flash-image", 2),
        UpstreamTally("other", "gemini-3.8-flash", 1),
    ]
    assert sorted(recent.spendings(file, NOON)) == [
        Spending("google", NOON + 999_999, 9),
        Spending("other", NOON, 3),
    ]


async def test_what_is_long_past_is_not_read(tmp_path: Path) -> None:
    """A start doesn't read the whole ledger: of 2,000 records it looks at a dozen or so to find where to begin."""
    file = await written(tmp_path, *(NOON - 50 * 60 * MINUTE + number for number in range(2000)), NOON)
    with sqlite3.connect(file) as connection:
        steps = Steps(connection, 100)
        assert recent._first_since(connection, NOON) == 2001
        found = steps.taken
        connection.execute("SELECT sum(images) FROM usage_records").fetchall()
    assert found * 5 < steps.taken - found


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("not a database, but long enough to be looked at as one")
    with pytest.raises(LedgerUnusable, match="ledger file"):
        recent.tallies(tmp_path / "no.db", DAY, NOON)


def test_limits_count_what_was_used_as_far_as_it_is_known() -> None:
    """Nothing of a call that Google answered with an error; the estimate where nothing is known."""
    assert recent.taken(sample("a", prompt_token_count=7, images=2)) == {"tpm": 7, "ipm": 2}
    assert recent.taken(sample("a", outcome="upstream_error", prompt_token_count=None)) == {"tpm": 0, "ipm": 0}
    assert recent.taken(sample("a", outcome="truncated", prompt_token_count=None, images=1)) == {"ipm": 1}
    assert recent.taken(sample("a", outcome="unsettled", prompt_token_count=None, images=0)) == {}


def test_a_call_all_of_whose_pictures_failed_took_none() -> None:
    assert recent.taken(sample("a", prompt_token_count=None, images=0, estimated=False)) == {"ipm": 0}
    assert recent.taken(sample("a", prompt_token_count=None, images=0, estimated=True)) == {}
