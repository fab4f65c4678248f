"""Sums and records read from ledger files."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import astuple

from proxy.billing import ledger_reading, reports
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import UsageRecord
from tests.billing.sample import NOON, sample
from tests.billing.steps import Steps

pytestmark = pytest.mark.anyio

HOUR = 3_600_000_000
AT_NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def written(data_dir: Path, *records: UsageRecord) -> list[Path]:
    """The ledger files of a data_dir in which these records were written, its server ended."""
    ledger = Ledger.open(data_dir, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
    await asyncio.gather(*map(ledger.write, records))
    await ledger.close()
    return ledger_files(data_dir)


def groups(rows: Sequence[reports.ReportRow]) -> list[tuple[str, ...]]:
    return [tuple(row.group.values()) for row in rows]


async def test_a_report_sums_by_the_dimensions_asked_for_in_their_order(tmp_path: Path) -> None:
    files = await written(
        tmp_path,
        sample("a"),
        sample("b"),
        sample("c", project="zeta", key_id="k9"),
        sample("d", model="gemini-3-pro-image", cached_content_token_count=3, searches=2),
    )

    assert groups(reports.report(files, ["project", "model"])) == [
        ("acme", "gemini-2.5-flash-image"),
        ("acme", "gemini-3-pro-image"),
        ("zeta", "gemini-2.5-flash-image"),
    ]
    assert groups(reports.report(files, ["key", "project"])) == [("k1", "acme"), ("k9", "zeta")]
    [row] = reports.report(files, [])
    assert (row.calls, row.prompt_token_count, row.output_token_count, row.cached_content_token_count) == (
        4,
        28,
        4480,
        3,
    )
    assert (row.images, row.searches, row.cost_usd) == (4, 2, 4 * 33_602_100)


async def test_estimated_and_unpriced_calls_are_told_apart(tmp_path: Path) -> None:
    files = await written(
        tmp_path, sample("a"), sample("b", estimated=True, cost_usd=5, outcome="truncated"), sample("c", cost_usd=None)
    )

    [row] = reports.report(files, [])
    assert (row.calls, row.estimated_calls, row.unpriced_calls) == (3, 1, 1)
    assert (row.cost_usd, row.estimated_cost_usd) == (33_602_105, 5)


async def test_adjustments_are_on_the_bill_told_apart_and_no_calls(tmp_path: Path) -> None:
    adjustment = {"kind": "adjustment", "operation": "adjustment", "images": 0, "total_token_count": None}
    adjustment |= {"prompt_token_count": None, "candidates_token_count": None}
    files = await written(
        tmp_path,
        sample("a"),
        sample("adj_1", **adjustment, cost_usd=-600),
        sample("adj_2", **adjustment, cost_usd=100, key_id="", model=""),
    )

    [row] = reports.report(files, [])
    assert (row.calls, row.images, row.prompt_token_count, row.output_token_count) == (1, 1, 7, 1120)
    assert (row.cost_usd, row.adjustments_cost_usd) == (33_602_100 - 500, -500)
    assert (row.estimated_calls, row.estimated_cost_usd, row.unpriced_calls) == (0, 0, 0)
    assert groups(reports.report(files, ["key"])) == [("",), ("k1",)]
    assert [(*row.group.values(), row.calls, row.cost_usd) for row in reports.report(files, ["operation"])] == [
        ("adjustment", 0, -500),
        ("generateContent", 1, 33_602_100),
    ]


async def test_a_record_is_found_by_its_id_in_whichever_file(tmp_path: Path) -> None:
    files = await written(tmp_path / "one", sample("a")) + await written(tmp_path / "two", sample("b"))

    assert reports.find(files, "b") == sample("b")
    assert reports.find(files, "c") is None
    assert reports.find([], "a") is None


async def test_the_records_of_a_request_are_found_in_every_file_and_for_its_own_project_only(tmp_path: Path) -> None:
    mine = [sample(record_id, request_id="q") for record_id in ("a", "b", "adj_1")]
    others = [sample("c", request_id="q", project="zeta"), sample("d")]
    files = await written(tmp_path / "one", mine[0], *others, mine[1]) + await written(tmp_path / "two", mine[2])

    assert reports.of_request(files, "q", "acme", most=9) == mine
    assert reports.of_request(files, "q", "acme", most=1) == [mine[0], mine[2]]
    assert reports.of_request(files, "q", "nobody", most=9) == []


async def test_the_records_of_a_request_are_found_by_an_index(tmp_path: Path) -> None:
    """A thousand records before it cost next to nothing."""
    [path] = await written(tmp_path, *(sample(f"{number}") for number in range(1_000)))
    with ledger_reading.reading(path) as connection:
        steps = Steps(connection, 1)
        connection.execute("SELECT * FROM usage_records WHERE request_id = 'request-999' ORDER BY seq").fetchall()
    assert steps.taken < 200


async def test_days_and_months_are_those_of_the_time_zone(tmp_path: Path) -> None:
    midnight_utc = datetime(2026, 12, 1, tzinfo=UTC)
    at = int(midnight_utc.timestamp()) * 1_000_000
    files = await written(tmp_path, sample("a", started_at=at - 1), sample("b", started_at=at + 8 * HOUR))

    assert groups(reports.report(files, ["day"])) == [("2026-11-30",), ("2026-12-01",)]
    assert groups(reports.report(files, ["day"], timezone="America/Los_Angeles")) == [("2026-11-30",), ("2026-12-01",)]
    assert groups(reports.report(files, ["day"], timezone="Asia/Tokyo")) == [("2026-12-01",)]
    assert groups(reports.report(files, ["month", "day"], timezone="Asia/Tokyo")) == [("2026-12", "2026-12-01")]
    assert groups(reports.report(files, ["hour"], timezone="Asia/Tokyo"))[0] == ("2026-12-01T08:00+09:00",)


async def test_a_report_runs_from_since_to_before_until_by_hours(tmp_path: Path) -> None:
    files = await written(tmp_path, *(sample(f"{hour}", started_at=NOON + hour * HOUR + 5) for hour in range(-2, 3)))

    def calls(since: datetime | None, until: datetime | None) -> int:
        return sum(row.calls for row in reports.report(files, ["hour"], since, until))

    assert calls(AT_NOON, None) == 3
    assert calls(None, AT_NOON) == 2
    assert calls(AT_NOON, AT_NOON + timedelta(hours=1)) == 1
    assert calls(AT_NOON + timedelta(minutes=59), AT_NOON + timedelta(hours=1, minutes=59)) == 1
    assert reports.report(files, [], AT_NOON + timedelta(days=1), None) == []


async def test_a_report_over_years_adds_its_pages_up(tmp_path: Path) -> None:
    files = await written(tmp_path, *(sample(f"{page}", started_at=NOON + page * 743 * HOUR) for page in range(40)))

    [row] = reports.report(files, ["project"])
    assert row.calls == 40


async def test_files_are_reported_side_by_side(tmp_path: Path) -> None:
    files = await written(tmp_path / "one", sample("a")) + await written(tmp_path / "two", sample("b"))

    assert reports.report(files, ["project"])[0].calls == 2
    assert [record.record_id for record in reports.export(files)] == ["a", "b"]


async def test_an_export_streams_the_records_in_the_order_of_writing(tmp_path: Path) -> None:
    records = [sample(f"{number}", started_at=NOON + number) for number in range(1_203)]
    files = await written(tmp_path, *records)

    assert list(reports.export(files)) == records
    within = reports.export(files, AT_NOON + timedelta(microseconds=10), AT_NOON + timedelta(microseconds=700))
    assert list(within) == records[10:700]


async def test_a_file_of_an_older_version_is_exported_with_defaults(tmp_path: Path) -> None:
    files = await written(tmp_path, sample("a", hint="say so"))
    with closing(sqlite3.connect(files[0])) as connection:
        connection.execute("ALTER TABLE usage_records DROP COLUMN hint")

    assert list(reports.export(files)) == [sample("a")]


async def test_records_are_read_while_a_server_writes_and_the_writer_is_not_held_up(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
    files = ledger_files(tmp_path)
    await asyncio.gather(*(ledger.write(sample(f"{number}")) for number in range(600)))
    reading = reports.export(files)
    first = next(reading)
    await asyncio.gather(*(ledger.write(sample(f"{number}")) for number in range(600, 1_200)))

    assert [first.record_id, *(record.record_id for record in reading)] == [f"{number}" for number in range(600)]
    assert reports.report(files, [])[0].calls == 1_200
    await ledger.close()


async def test_an_empty_ledger_gives_an_empty_report(tmp_path: Path) -> None:
    files = await written(tmp_path)

    assert reports.report(files, ["project", "day"]) == []
    assert reports.report(files, []) == []
    assert list(reports.export(files)) == []
    assert ledger_files(tmp_path / "nowhere") == []


async def test_what_cannot_be_read_or_asked_is_said(tmp_path: Path) -> None:
    (tmp_path / "0.db").write_bytes(b"not a database, " * 1000)
    with pytest.raises(LedgerUnusable, match=r"0\.db can't be read"):
        reports.report([tmp_path / "0.db"], [])
    with pytest.raises(LedgerUnusable, match=r"1\.db can't be read"):
        list(reports.export([tmp_path / "1.db"]))
    with pytest.raises(ValueError, match="Can't report by colour: choose from project, key"):
        reports.report([], ["colour"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no time zone"):
        reports.report([], [], since=datetime(2026, 11, 21))  # noqa: DTZ001
    with pytest.raises(ValueError, match="not a time zone"):
        reports.report([], [], timezone="Mars/Olympus")


def summed(records: Sequence[UsageRecord], word: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    """What a report by one word must say, added up from the records one by one."""
    columns = {"key": "key_id", "tier": "service_tier"}
    sums: dict[tuple[str, ...], list[int]] = {}
    for record in records:
        if word == "day":
            value = datetime.fromtimestamp(record.started_at // 3_600_000_000 * 3600, UTC).date().isoformat()
        else:
            value = getattr(record, columns.get(word, word)) or ""
        output = (record.candidates_token_count or 0) + (record.thoughts_token_count or 0)
        if record.total_token_count is not None:
            output = record.total_token_count - (record.prompt_token_count or 0)
            output = max(output - (record.tool_use_prompt_token_count or 0), 0)
        call, cost, adjusts = int(record.kind == "call"), record.cost_usd or 0, record.kind == "adjustment"
        added = (
            *(call, record.prompt_token_count or 0, record.cached_content_token_count or 0),
            *(record.tool_use_prompt_token_count or 0, record.thoughts_token_count or 0),
            *(record.candidates_token_count or 0, output, record.images, record.searches, cost),
            *(int(record.cost_usd is None), call * record.estimated, cost * record.estimated, cost * adjusts),
        )
        total = sums.setdefault((value,), [0] * len(added))
        total[:] = [was + more for was, more in zip(total, added, strict=True)]
    return {group: tuple(total) for group, total in sums.items()}


def at_random(number: int, chance: random.Random) -> UsageRecord:
    """A call or an adjustment of some project and key, on one of ten days."""

    def count() -> int | None:
        return chance.choice((None, 0, chance.randrange(10**6)))

    values: dict[str, object] = {
        "project": chance.choice(("acme", "zeta")),
        "key_id": chance.choice(("k1", "k2")),
        "model": chance.choice(("m", "n")),
        "service_tier": chance.choice((None, "flex")),
        "upstream": chance.choice(("google", "other")),
        "outcome": chance.choice(("ok", "truncated", "client_gone", "upstream_error", "unsettled")),
        "started_at": NOON + chance.randrange(10 * 24 * HOUR),
        "cost_usd": chance.choice((None, 0, chance.randrange(10**12))),
        "estimated": chance.random() < 0.3,
        "images": chance.randrange(3),
        "searches": chance.randrange(3),
    }
    for name in ("prompt", "cached_content", "tool_use_prompt", "thoughts", "candidates", "total"):
        values[f"{name}_token_count"] = count()
    if chance.random() < 0.2:
        values |= {"kind": "adjustment", "operation": "adjustment", "cost_usd": chance.randrange(-(10**9), 10**9)}
        values |= {"estimated": False}
    return sample(f"{number}", **values)


@pytest.mark.parametrize("seed", range(4))
async def test_the_hourly_sums_are_those_of_the_records_after_any_history(tmp_path: Path, seed: int) -> None:
    """Calls and adjustments of all kinds, some written twice, over restarts of the server."""
    chance = random.Random(seed)
    records: list[UsageRecord] = []
    for _ in range(3):
        records += [at_random(len(records) + number, chance) for number in range(100)]
        again = chance.sample(records, 20)
        files = await written(tmp_path, *records[-100:], *again)
    for word in ("project", "key", "model", "day", "operation", "upstream", "tier", "outcome"):
        rows = reports.report(files, [word])  # type: ignore[list-item]
        assert {tuple(row.group.values()): astuple(row)[1:] for row in rows} == summed(records, word)
    of_acme = reports.report(files, ["day"], project="acme")
    mine = summed([record for record in records if record.project == "acme"], "day")
    assert {tuple(row.group.values()): astuple(row)[1:] for row in of_acme} == mine
    assert astuple(reports.total(of_acme))[1:] == tuple(map(sum, zip(*mine.values(), strict=True)))


async def test_a_report_reads_sums_and_no_records(tmp_path: Path) -> None:
    """So that ten million records take it no longer than their hours."""
    [path] = await written(tmp_path, sample("a"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE usage_records RENAME TO elsewhere")
    assert reports.report([path], ["project", "day"])[0].calls == 1


async def test_a_project_that_asks_for_its_own_does_not_wait_for_what_others_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in steps of SQLite's machine: 50 other projects in each of its hours add none."""

    def steps(files: list[Path]) -> int:
        counted: list[Steps] = []

        @contextmanager
        def counting(path: Path) -> Iterator[sqlite3.Connection]:
            with reading(path) as connection:
                counted.append(Steps(connection, 10))
                yield connection

        reading = ledger_reading.reading
        with monkeypatch.context() as patch:
            patch.setattr(ledger_reading, "reading", counting)
            [row] = reports.report(files, ["project"], project="mine")
        assert row.calls == 24
        return sum(steps.taken for steps in counted)

    own = [sample(f"{hour}", project="mine", started_at=NOON + hour * HOUR) for hour in range(24)]
    alone = steps(await written(tmp_path, *own))
    others = [
        sample(f"{hour}-{other}", project=f"other{other}", started_at=NOON + hour * HOUR)
        for hour in range(24)
        for other in range(50)
    ]
    assert steps(await written(tmp_path, *others)) <= alone * 1.1
