"""Records that are removed when they are old enough: how few at once, and that everything goes on telling the truth."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy.billing import adjustments, ledger_reading, ledger_writer, reports, rerating, retention
from proxy.billing.adjustments import AdjustmentRefused
from proxy.billing.exports import Export
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_file import LedgerFile, Removable
from proxy.billing.ledger_reading import Removed, reading
from proxy.billing.ledger_writer import REMOVED_AT_ONCE, Kind, Writer
from proxy.billing.periods import DAY_US
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord, id_maker, to_row
from proxy.billing.rerating import Selection
from proxy.billing.spent import spent
from proxy.billing.verify import Verifier
from tests.billing.sample import NOON, sample
from tests.billing.test_ledger_file import opened
from tests.billing.test_reports import HOUR, at_random, written
from tests.billing.test_verify import tampered, verified

pytestmark = pytest.mark.anyio

BARE = {"usage": None}


def hour(number: int, record_id: str = "", **changes: Any) -> UsageRecord:
    """A call in that hour, which took four seconds."""
    at = NOON + number * HOUR
    return sample(record_id or f"{number}", **BARE | {"started_at": at, "finished_at": at + 4_000_000} | changes)


def remove(data_dir: Path, before: int, most: int = 1_000) -> int:
    with closing(opened(data_dir)) as file:
        return file.remove(before, most)


def numbers(path: Path) -> list[int]:
    with reading(path) as connection:
        return [row[0] for row in connection.execute("SELECT seq FROM usage_records ORDER BY seq")]


async def test_the_oldest_go_as_many_as_are_asked_for_and_the_sums_stay(tmp_path: Path) -> None:
    [path] = await written(tmp_path, *(hour(number) for number in range(10)))
    before = [reports.report([path], [word]) for word in reports.DIMENSIONS]
    assert remove(tmp_path, NOON + 6 * HOUR, most=4) == 4
    assert numbers(path) == [5, 6, 7, 8, 9, 10]
    assert remove(tmp_path, NOON + 6 * HOUR, most=4) == 2
    assert remove(tmp_path, NOON + 6 * HOUR, most=4) == 0
    assert numbers(path) == [7, 8, 9, 10]
    assert [reports.report([path], [word]) for word in reports.DIMENSIONS] == before
    assert spent([path]) == {("acme", "k1", sample("").model): 10 * 33_602_100}
    assert retention.records_since([path]) == NOON + 5 * HOUR + 1


async def test_a_record_goes_by_when_it_was_written_and_none_goes_before_an_older_one(tmp_path: Path) -> None:
    """A call may take hours; a clock that was ahead keeps what was written behind it."""
    long = hour(0, finished_at=NOON + 8 * HOUR)
    [path] = await written(tmp_path, hour(1), long, hour(2))
    assert remove(tmp_path, NOON + 4 * HOUR) == 1
    assert numbers(path) == [2, 3]
    assert remove(tmp_path, NOON + 9 * HOUR) == 2


async def test_nothing_but_retention_deletes(tmp_path: Path) -> None:
    [path] = await written(tmp_path, *(hour(number) for number in range(3)))
    assert remove(tmp_path, NOON + HOUR) == 1
    with closing(sqlite3.connect(path)) as connection:
        for which in ("seq = 2", "seq = 3", "true"):
            with pytest.raises(sqlite3.IntegrityError, match="insert-only"):
                connection.execute(f"DELETE FROM usage_records WHERE {which}")


async def test_numbers_go_on_where_all_were_removed(tmp_path: Path) -> None:
    [path] = await written(tmp_path, hour(0), hour(1))
    first = Export([path], None, None)
    assert sum(map(len, first)) == 2
    assert remove(tmp_path, NOON + 5 * HOUR) == 2
    assert verified(path)[1] == []
    await written(tmp_path, hour(6))
    assert numbers(path) == [3]
    assert verified(path)[1] == []
    again = Export([path], None, None, first.cursor)
    assert [row[1] for rows in again for row in rows] == ["6"]
    assert again.missed == []


async def test_an_older_file_has_removed_nothing(tmp_path: Path) -> None:
    [path] = await written(tmp_path, hour(0))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER usage_records_no_delete")
        connection.execute("ALTER TABLE file DROP COLUMN removed_before")
        connection.execute("ALTER TABLE file DROP COLUMN removed_through")
    assert retention.records_since([path]) == 0
    with closing(opened(tmp_path)), reading(path) as connection:
        assert ledger_reading.removed(connection) == Removed(0, 0)


def step_pages(data_dir: Path, records: int) -> int:
    """Pages that the second step of retention writes into a file of so many records."""
    ids = id_maker(lambda: NOON // 1000, random.Random(0).randbytes)
    with closing(opened(data_dir)) as file:
        for _ in range(0, records, 500):
            file.commit([], [to_row(sample(ids(), request_id=ids())) for _ in range(500)], [])
        file.remove(NOON + HOUR, REMOVED_AT_ONCE)
        file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert file.remove(NOON + HOUR, REMOVED_AT_ONCE) == REMOVED_AT_ONCE
        return file.path.with_name("0.db-wal").stat().st_size // 4120


def test_a_step_writes_few_pages_however_long_the_ledger_is(tmp_path: Path) -> None:
    short, long = step_pages(tmp_path / "a", 1_000), step_pages(tmp_path / "b", 10_000)
    assert long <= short * 1.5 <= 1.5 * 40


async def test_what_waits_is_written_before_the_next_step(tmp_path: Path) -> None:
    """One turn of the writer: whatever has come, then a step, and no more of it than its bound."""
    [path] = await written(tmp_path, *(hour(0, record_id=f"{number}") for number in range(350)))
    file = opened(tmp_path)
    writer = Writer(
        file,
        asyncio.get_running_loop(),
        lambda broken: None,
        lambda seconds: None,
        available=True,
        tick_s=0,
        patience_s=1,
        removable=lambda: Removable(NOON + HOUR),
    )
    for turn in range(3):
        writer.inbox.append((Kind.RECORD, to_row(hour(2, record_id=f"new-{turn}")), None))
        writer._next_removal = 0
        assert writer._turn()
        found = numbers(path)
        assert found[-1] == 351 + turn
        assert len(found) == 350 - (turn + 1) * REMOVED_AT_ONCE + turn + 1
    writer._turn()
    assert numbers(path)[-1] == 353  # the next step isn't due
    file.close()


async def test_a_writer_with_work_to_do_waits_for_it_and_not_in_circles_while_it_cannot(tmp_path: Path) -> None:
    """On a full disk nothing is removed, however long it is due."""
    file = opened(tmp_path)
    with closing(file):
        writer = Writer(
            file,
            asyncio.get_running_loop(),
            lambda broken: None,
            lambda seconds: None,
            available=False,
            tick_s=7,
            patience_s=1,
            removable=lambda: Removable(NOON),
        )
        assert writer._patiently() == 7
        writer.available = True
        assert writer._patiently() == 0


async def test_a_server_removes_what_is_old_and_keeps_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_writer, "REMOVAL_PAUSE_S", 0.001)
    old = [hour(-24 * 40, record_id=f"old-{number}") for number in range(3 * REMOVED_AT_ONCE + 1)]
    [path] = await written(tmp_path, *old, hour(-24 * 34), hour(0))
    ledger = Ledger.open(
        tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=0, tick_s=30, retention_us=35 * DAY_US
    )
    with anyio.fail_after(30):
        while len(numbers(path)) > 2:
            await anyio.sleep(0.005)
    await ledger.close()
    assert verified(path)[1] == []
    assert reports.report([path], [])[0].calls == len(old) + 2


async def test_without_the_setting_nothing_is_ever_removed(tmp_path: Path) -> None:
    [path] = await written(tmp_path, hour(-24 * 4000))
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=0, tick_s=0)
    await ledger.write(hour(0))
    await ledger.close()
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_history_of_removals_the_ledger_is_well_and_says_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    now, seen = NOON, dict[str, UsageRecord]()
    for _ in range(6):
        records = []
        for _ in range(chance.randrange(1, 80)):
            now += chance.randrange(HOUR // 10)
            record = at_random(len(seen), chance)
            record.started_at, record.finished_at = now - chance.randrange(3 * HOUR), now
            record.usage, record.rates = None, {"output_text": (record.cost_usd or 0, 1_000_000)}
            if record.outcome == "upstream_error":
                record.rates, record.cost_usd = {}, 0 if record.kind == "call" else record.cost_usd
            seen[record.record_id] = record
            records.append(record)
        [path] = await written(tmp_path, *records)
        remove(tmp_path, now - chance.randrange(8 * HOUR), most=chance.randrange(1, 60))
        assert verified(path)[1] == []
    assert sum(row.calls for row in reports.report([path], ["day"])) == sum(r.kind == "call" for r in seen.values())
    assert sum(spent([path], project="acme").values()) == sum(
        record.cost_usd or 0 for record in seen.values() if record.project == "acme"
    )
    since = retention.records_since([path])
    assert since
    kept = {record.record_id for record in reports.export([path])}
    assert {record_id for record_id, record in seen.items() if record.started_at >= since} <= kept


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM usage_records WHERE seq = 8", "record 8 is missing before this one, which is 9"),
        ("DELETE FROM usage_records WHERE seq = 4", "record 4 is missing before this one, which is 5"),
        ("DELETE FROM usage_records WHERE seq = 10", "the last records are missing: 10 were written"),
        ("UPDATE file SET removed_through = 5", "2 records up to 5 stand, which retention removed"),
        ("UPDATE file SET removed_through = 0", "records 1 to 3 are missing before this one, which is 4"),
        ("UPDATE usage_hourly SET images = 1 WHERE hour = (SELECT min(hour) FROM usage_hourly)", "images 1 and not 2"),
        ("UPDATE usage_hourly SET calls = 2 WHERE hour = (SELECT max(hour) FROM usage_hourly)", "calls 2 and not 1"),
    ],
)
async def test_what_retention_did_not_remove_is_a_finding_as_before(tmp_path: Path, change: str, says: str) -> None:
    """Five calls of one hour, of which three were removed, and five of an hour each."""
    first = [hour(0, record_id=f"{at}", started_at=NOON + at, finished_at=NOON + at) for at in range(5)]
    [path] = await written(tmp_path, *first, *(hour(number) for number in range(5, 10)))
    assert remove(tmp_path, NOON + 3) == 3
    summary, findings = verified(path)
    assert findings == []
    assert (summary.first_seq, summary.removed_through, summary.removed_before) == (4, 3, NOON + 3)
    assert says in tampered(path, change)[0].says


async def test_a_verification_that_retention_overtakes_finds_nothing(tmp_path: Path) -> None:
    [path] = await written(tmp_path, *(hour(0, record_id=f"old-{number}") for number in range(1_200)), hour(9))
    verifier = Verifier(path)
    pages = reports.pages

    def overtaken(*arguments: Any, **options: Any) -> Any:
        for page in pages(*arguments, **options):
            yield page
            remove(tmp_path, NOON + HOUR, most=700)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "pages", overtaken)
        assert list(verifier) == []
    assert numbers(path) == [1_201]


async def test_an_export_says_what_it_came_too_late_for(tmp_path: Path) -> None:
    [path] = await written(tmp_path, *(hour(number) for number in range(10)))
    cursors = []
    for count in (2, 3, 5):
        export = Export([path], None, None)
        file_id = next(iter(export._files))
        cursors.append(f"{file_id}:{count}")
    remove(tmp_path, NOON + 3 * HOUR)
    missed = [(path, Removed(3, NOON + 2 * HOUR + 1))]
    assert [Export([path], None, None, cursor).missed for cursor in cursors] == [missed, [], []]
    assert Export([path], None, None).missed == missed


async def test_a_record_that_was_removed_cannot_be_corrected_or_priced_anew_and_that_is_said(tmp_path: Path) -> None:
    files = await written(tmp_path, hour(0), hour(5))
    remove(tmp_path, NOON + HOUR)
    asked = {"record_id": "adj_1", "project": "acme", "cost_usd": "1", "why": "torn", "now_us": NOON, "period": "p"}
    with pytest.raises(AdjustmentRefused, match=r"from before 2026-11-21T12:00Z were removed .*name the call in the"):
        adjustments.make(files, **asked, of="0")  # type: ignore[arg-type]
    book = PriceBook.load(())
    found = rerating.rerate(files, book, Selection(0, 2**62))
    assert [each.record.record_id for each in found] == ["5"]


async def test_a_record_whose_rerating_another_file_has_forgotten_is_not_priced_anew(tmp_path: Path) -> None:
    """Its adjustment may be gone from there, and would be made again."""
    files = [*await written(tmp_path / "a", hour(0)), *await written(tmp_path / "b", hour(1))]
    book = PriceBook.load(())
    assert len(list(rerating.rerate(files, book, Selection(0, 2**62)))) == 2
    remove(tmp_path / "b", NOON + 2 * HOUR)
    assert list(rerating.rerate(files, book, Selection(0, 2**62))) == []
    assert rerating.rerate_these(files, book, ["0", "1"]) == {}


def test_removing_is_not_fsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file: LedgerFile = LedgerFile.open(tmp_path, busy_timeout_s=1, ballast_bytes=0, random=os.urandom)
    file.commit([], [to_row(hour(0))], [])
    file.remove(NOON + HOUR, 1)
    assert file._connection.execute("PRAGMA synchronous").fetchone() == (1,)
    file.commit([], [to_row(hour(1))], [])
    assert file._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    file.close()
