"""What was spent since a moment: to the nano-dollar, also where a day begins within an hour."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import reading
from proxy.billing.records import UsageRecord, first_id_of, id_maker
from proxy.billing.spent import _CALLS, _OTHERS, last_times, spent
from tests.billing.sample import NOON, sample
from tests.billing.steps import Steps
from tests.billing.test_reports import HOUR, written

pytestmark = pytest.mark.anyio

MINUTE = HOUR // 60
MODEL = sample("").model


def history(seed: int) -> list[UsageRecord]:
    """Calls, some long, some without a price, and adjustments, over four days; a clock that is set back by an hour."""
    chance = random.Random(seed)
    clock = NOON
    ids = id_maker(lambda: clock // 1000, chance.randbytes)
    records = []
    for number in range(800):
        clock += chance.randrange(10 * MINUTE) - HOUR * (number in (200, 500))
        changes = {"project": chance.choice(("acme", "zeta")), "started_at": clock, "period": "p"}
        changes |= {"model": chance.choice(("gemini-3.8-flash", "gemini-3-pro-image"))}
        changes |= {"key_id": changes["project"] + chance.choice("12"), "cost_usd": chance.choice((None, 0, 10**9))}
        if chance.random() < 0.1:
            changes |= {"kind": "adjustment", "operation": "adjustment", "cost_usd": chance.randrange(-(10**9), 10**9)}
            records.append(sample(f"adj_{number}", **changes | {"key_id": chance.choice(("", changes["key_id"]))}))
        else:
            ended = clock + chance.choice((1, 20 * MINUTE, 9 * HOUR))
            records.append(sample(ids(), **changes | {"cost_usd": chance.randrange(10**9), "finished_at": ended}))
    return sorted(records, key=lambda record: record.finished_at or 0)


def added_up(records: Sequence[UsageRecord], since: int) -> dict[tuple[str, str, str], int]:
    sums: dict[tuple[str, str, str], int] = {}
    for record in records:
        if record.started_at >= since:
            who = record.project, record.key_id, record.model
            sums[who] = sums.get(who, 0) + (record.cost_usd or 0)
    return sums


@pytest.mark.parametrize("seed", range(3))
async def test_it_is_what_the_records_add_up_to_since_any_moment(tmp_path: Path, seed: int) -> None:
    records = history(seed)
    half = len(records) // 2
    files = [*await written(tmp_path / "a", *records[:half]), *await written(tmp_path / "b", *records[half:])]
    assert spent(files) == added_up(records, 0)
    chance = random.Random(seed)
    for _ in range(60):
        since = NOON + chance.randrange(100 * 60) * MINUTE
        expected = added_up(records, since)
        assert spent(files, since) == expected
        assert spent(files, since, "acme") == {of: cost for of, cost in expected.items() if of[0] == "acme"}


@pytest.mark.parametrize("timezone", ["Asia/Kolkata", "Asia/Kathmandu", "America/Los_Angeles"])
async def test_a_day_that_begins_within_an_hour_begins_there(tmp_path: Path, timezone: str) -> None:
    midnight = int(datetime(2026, 11, 21, tzinfo=ZoneInfo(timezone)).astimezone(UTC).timestamp()) * 1_000_000
    before, after = (
        sample(id_maker(lambda at=at: at // 1000, bytes)(), started_at=at, cost_usd=cost)  # type: ignore[misc]
        for at, cost in ((midnight - 1, 1), (midnight, 10))
    )
    files = await written(tmp_path, before, after)
    assert spent(files, midnight) == {("acme", "k1", MODEL): 10}


@pytest.mark.parametrize("steps", [-HOUR, HOUR])
async def test_a_call_counts_by_its_start_whatever_the_clock_did_before_its_id_was_made(
    tmp_path: Path, steps: int
) -> None:
    since = NOON + 30 * MINUTE
    record_id = id_maker(lambda: (since + steps) // 1000, bytes)()
    before, within = (sample(record_id, started_at=since + late) for late in (-1, 0))
    assert spent(await written(tmp_path / "a", before), since) == {}
    assert spent(await written(tmp_path / "b", within), since) == {("acme", "k1", MODEL): 33_602_100}


async def test_an_adjustment_of_no_key_is_the_projects_alone(tmp_path: Path) -> None:
    files = await written(tmp_path, sample("adj_1", kind="adjustment", key_id="", cost_usd=-7))
    assert spent(files) == {("acme", "", MODEL): -7}
    assert spent(files, NOON) == {("acme", "", MODEL): -7}
    assert spent(files, NOON + 1) == {}


async def test_of_the_records_only_those_about_the_edge_are_read(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine: of four days of calls those of five hours, found by their ids."""
    [path] = await written(tmp_path, *history(1))
    since, end = NOON + 30 * MINUTE, NOON + HOUR
    ids = {"first_id": first_id_of(since - 2 * HOUR), "end_id": first_id_of(end + 2 * HOUR)}
    with reading(path) as connection:
        steps = Steps(connection, 1)
        for select in (_CALLS, _OTHERS):
            connection.execute(select, {"since": since, "end": end} | ids).fetchall()
        edge = steps.taken
        connection.execute("SELECT sum(cost_usd) FROM usage_records WHERE started_at > 0").fetchall()
    assert edge * 5 < steps.taken - edge


async def test_an_empty_ledger_and_none_at_all_have_spent_nothing(tmp_path: Path) -> None:
    assert spent(await written(tmp_path), NOON + 1) == spent([]) == {}
    with pytest.raises(LedgerUnusable, match="can't be read"):
        spent([tmp_path / "none.db"])


async def test_when_the_last_calls_were_is_known_by_the_clock_and_by_the_order_of_writing(tmp_path: Path) -> None:
    """One of them may have been made while the clock was wrong."""
    files = await written(
        tmp_path, sample("ahead", started_at=NOON + 900 * HOUR + 5), sample("last", started_at=NOON + 7)
    )
    assert last_times(files) == {NOON + 7, NOON + 900 * HOUR, NOON + 901 * HOUR - 1}
    assert last_times([]) == set()
