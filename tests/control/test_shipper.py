"""The shipper with a real PostgreSQL: each record once, whatever is killed, raced, restored or stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from proxy.billing import partitions, shipping
from proxy.billing.ledger import Ledger
from proxy.billing.periods import DAY_US, Days
from proxy.billing.records import UsageRecord
from proxy.billing.shipped_mark import mark_of, marked_through
from proxy.control import shipper as control
from proxy.control.shipper import Shipper
from proxy.store.database import Database, StoreError, open_database, upgrade
from tests.billing.sample import NOON, lease, sample
from tests.billing.shipped import assert_sums_are_those_of_the_records, calls, put, records_in, records_of, rows
from tests.billing.test_ledger_file import opened
from tests.journeys.watching import until
from tests.postgres_servers import SUPERUSER, PostgresDatabase, PostgresServer

pytestmark = pytest.mark.anyio


class Clock:
    """What the shipper goes by for its looks and chores."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


def shipper(database: Database, data_dir: Path, owned: Collection[str] = ("0", "1"), **options: Any) -> Shipper:
    return Shipper(database, data_dir, owned, lambda: NOON, node="here", day_of=Days("UTC").name, **options)


def ship(one: Shipper) -> None:
    while one.step():
        pass


def assert_whole(database: Database, *paths: Path) -> None:
    """PostgreSQL has what the files have, each once, and the sums of that."""
    assert records_in(database) == sorted((row for path in paths for row in records_of(path)), key=lambda row: row[2])
    assert_sums_are_those_of_the_records(database)


class Killed(BaseException):
    """Ends the shipper as a signal does: what was not committed is gone, and all that it knew."""


async def test_every_record_is_there_once_wherever_the_shipper_was_killed(
    tmp_path: Path, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each statement and before each commit in turn: what is after a commit is before the next statement."""
    monkeypatch.setattr(shipping, "PAGE_RECORDS", 3)
    left = 0

    def step(*_: object, **__: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    engine: Any = postgres_database._backend.writer
    event.listen(engine, "before_cursor_execute", step)
    event.listen(engine, "commit", step)
    kills, finished, paths = 0, False, list[Path]()
    while not finished:
        data_dir = tmp_path / f"{kills}"
        paths.append(put(data_dir, *calls(range(5), f"kill-{kills:03}")))
        left = kills = kills + 1
        try:
            ship(shipper(postgres_database, data_dir))
            finished = True
        except Killed:
            assert_sums_are_those_of_the_records(postgres_database)
        left = 0
        ship(shipper(postgres_database, data_dir))
        assert {row[2] for row in records_of(paths[-1])} <= {row[2] for row in records_in(postgres_database)}
    assert kills > 20
    assert_whole(postgres_database, *paths)


async def test_a_killed_process_leaves_what_its_successor_needs(
    tmp_path: Path, postgres_server: PostgresServer, postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at any time, in processes of their own."""
    used = postgres_server.database(postgres_schema)
    database = open_database(used.storage())
    monkeypatch.setattr(shipping, "PAGE_RECORDS", 20)
    path = put(tmp_path, *calls(range(1_000)))
    for _ in range(4):
        seen = len(records_in(database))
        child = os.fork()
        if child == 0:
            try:
                ship(shipper(open_database(used.storage()), tmp_path))
            finally:
                os._exit(0)
        await asyncio.to_thread(until, lambda seen=seen: len(records_in(database)) > seen, "a page is shipped")
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert_sums_are_those_of_the_records(database)
    ship(shipper(database, tmp_path))
    assert_whole(database, path)


async def test_two_shippers_race_for_the_same_files(
    tmp_path: Path, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two control processes do, of which one doesn't know yet that it is to end; and sums that two nodes share."""
    monkeypatch.setattr(shipping, "PAGE_RECORDS", 5)
    paths = [
        put(tmp_path / f"{node}", *calls(range(100), f"of-{node}-{slot}"), slot=slot)
        for node in (1, 2)
        for slot in "01"
    ]
    faults: list[BaseException] = []
    begin = threading.Barrier(4)

    def run(node: int) -> None:
        one = shipper(postgres_database, tmp_path / f"{node}")
        begin.wait(30)
        try:
            ship(one)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(node,)) for node in (1, 2, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert_whole(postgres_database, *paths)


async def test_a_database_restored_from_an_older_copy_is_shipped_again_by_itself(
    tmp_path: Path, postgres_server: PostgresServer, postgres_schema: str
) -> None:
    """Under a shipper that knows of nothing, and whether or not there are new records."""
    used = postgres_server.database(postgres_schema)
    database, clock = open_database(used.storage()), Clock()
    one = shipper(database, tmp_path, clock=clock)
    path = put(tmp_path, *calls(range(20)))
    ship(one)
    copy = backup(postgres_server, used)
    put(tmp_path, *calls(range(20, 40)))
    ship(one)
    assert_whole(database, path)
    restore(postgres_server, used, copy)
    assert len(records_in(database)) == 20
    clock.at += control.LOOK_S
    ship(one)
    assert_whole(database, path)
    copy = backup(postgres_server, used)
    put(tmp_path, *calls(range(40, 50)))
    ship(one)
    restore(postgres_server, used, copy)
    put(tmp_path, *calls(range(50, 55)))
    ship(one)
    assert_whole(database, path)
    assert marked_through(path, records_of(path)[0][0]) == 55


def backup(server: PostgresServer, of: PostgresDatabase) -> str:
    with replace(of, name="postgres").client(SUPERUSER) as client:
        end_all(client, of.name)
    return server.database(of.name).name


def restore(server: PostgresServer, to: PostgresDatabase, copy: str) -> None:
    with replace(to, name="postgres").client(SUPERUSER) as client:
        end_all(client, to.name)
        client.execute(f"DROP DATABASE {to.name}")
        client.execute(f"ALTER DATABASE {copy} RENAME TO {to.name}")


def end_all(client: Any, name: str) -> None:
    """Ends all connections to a database, and waits until they have: PostgreSQL 13 can't wait for that by itself."""
    client.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    while client.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [name]).fetchone():
        time.sleep(0.01)


async def test_while_postgresql_is_away_records_wait_and_are_told(tmp_path: Path, own_postgres: PostgresServer) -> None:
    used = own_postgres.database()
    upgrade(used.storage())
    database, backlog = open_database(used.storage()), dict[str, float]()
    one = shipper(database, tmp_path, on_backlog=lambda records, age_s: backlog.update(records=records, age_s=age_s))
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=0)
    watching = asyncio.create_task(one.watch())  # noqa: TID251

    async def reached(records: int, unshipped: int) -> None:
        async with asyncio.timeout(60):
            while backlog.get("records") != unshipped or await asyncio.to_thread(count) != records:
                await asyncio.sleep(0.02)

    def count() -> int:
        try:
            return len(records_in(database))
        except StoreError:
            return -1

    for record in calls(range(5)):
        await ledger.write(record)
    await reached(5, 0)
    own_postgres.kill()
    for record in calls(range(5, 12), finished_at=NOON - 90_000_000):
        await ledger.write(record)
    await reached(-1, 7)
    assert backlog["age_s"] == 90
    own_postgres.start()
    await reached(12, 0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    await ledger.close()
    assert_whole(database, tmp_path / "ledger" / "0.db")
    assert backlog == {"records": 0, "age_s": 0}


async def test_calls_keep_their_commits_while_a_backlog_is_shipped(
    tmp_path: Path, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two for each that comes alone, the lease's and the record's: whatever the shipper does, it isn't the writer's."""
    monkeypatch.setattr(shipping, "PAGE_RECORDS", 20)
    path, commits, left = put(tmp_path, *calls(range(600))), list[float](), [600]
    one = shipper(postgres_database, tmp_path, on_backlog=lambda records, age_s: left.append(records))
    ledger = Ledger.open(
        tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=0, on_commit=commits.append
    )
    watching = asyncio.create_task(one.watch())  # noqa: TID251
    async with asyncio.timeout(60):
        number = 0
        while left[-1] > 20:
            await ledger.open_lease(lease(f"beside-{number}"))
            await ledger.write(sample(f"beside-{number}"))
            number += 1
            await asyncio.sleep(0.01)
    assert len(commits) == 2 * number
    await asyncio.to_thread(one._try)
    watching.cancel()
    await ledger.close()
    ship(one)
    assert_whole(postgres_database, path)


async def test_a_file_without_an_owner_is_closed_out_then_shipped(tmp_path: Path, postgres_database: Database) -> None:
    left, closed = list[tuple[str, list[UsageRecord]]](), lambda file_id, records: left.append((file_id, records))
    mine = put(tmp_path, *calls(range(3)), leases=[lease("open-0")])
    orphan = put(tmp_path, *calls([7], "orphan"), leases=[lease("open-5")], slot="5")
    ship(shipper(postgres_database, tmp_path, on_closed_out=closed))
    assert_whole(postgres_database, mine, orphan)
    found = rows(
        postgres_database, "SELECT record_id, outcome, estimated FROM usage_records WHERE record_id LIKE 'open%'"
    )
    assert found == [("open-5", "unsettled", 1)]
    [(file_id, [record])] = left
    assert (file_id, record.record_id) == (records_of(orphan)[0][0], "open-5")
    live = rows(postgres_database, "SELECT slot, seen_at > 0 FROM shipped ORDER BY slot")
    assert live == [("0", True), ("5", False)]


async def test_a_file_that_cannot_be_read_holds_up_no_other(tmp_path: Path, postgres_database: Database) -> None:
    good = put(tmp_path, *calls(range(3)), slot="1")
    (tmp_path / "ledger" / "0.db").write_bytes(b"no ledger" * 100)
    one = shipper(postgres_database, tmp_path)
    with capture_logs() as told:
        for _ in range(3):
            one.step()
    assert [line["event"] for line in told] == ["ledger_shipping_waits"]
    assert_whole(postgres_database, good)


async def test_no_error_ends_it_and_each_is_told_once(
    tmp_path: Path, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that nobody thought of."""
    monkeypatch.setattr(control, "PAUSE_S", 0.001)
    tries, path = 0, put(tmp_path, *calls(range(3)))

    def fails_at_first(records: int, age_s: float) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ZeroDivisionError

    with capture_logs() as told:
        watching = asyncio.create_task(shipper(postgres_database, tmp_path, on_backlog=fails_at_first).watch())  # noqa: TID251
        await asyncio.to_thread(until, lambda: tries > 4, "it goes on")
        watching.cancel()
    assert [line["event"] for line in told if line["log_level"] != "debug"][:2] == [
        "ledger_shipping_waits",
        "ledger_shipping_goes_on",
    ]
    assert_whole(postgres_database, path)


async def test_records_removed_before_they_were_shipped_are_missed_loudly_and_the_rest_is_shipped(
    tmp_path: Path, postgres_database: Database
) -> None:
    """As where PostgreSQL was restored from a backup that is older than what the file has pruned."""
    path = put(tmp_path, *calls(range(3)))
    ship(shipper(postgres_database, tmp_path))
    put(tmp_path, *calls(range(3, 10)))
    file = opened(tmp_path)
    assert file.remove(NOON + 10**12, 100, 5) == 5
    file.close()
    with capture_logs() as told:
        ship(shipper(postgres_database, tmp_path))
    assert [row[1] for row in records_in(postgres_database)] == [1, 2, 3, 6, 7, 8, 9, 10]
    assert_sums_are_those_of_the_records(postgres_database)
    assert rows(postgres_database, "SELECT through_seq, missing FROM shipped") == [(10, 2)]
    noted = rows(postgres_database, "SELECT name, removed_before FROM removed_partitions")
    assert noted == [(f"file {records_of(path)[0][0]}", NOON + 240_000_001)]
    assert [(line["event"], line["records"]) for line in told] == [("ledger_records_missing", "4 to 5")]
    assert len(records_of(path)) == 5


async def test_a_ledger_file_restored_from_an_older_copy_is_shipped_whole(
    tmp_path: Path, postgres_database: Database
) -> None:
    """Its numbers are given a second time: what bears one again is shipped, too, and nothing counts twice."""
    clock = Clock()
    path = put(tmp_path, *calls(range(10)))
    copy = path.read_bytes()
    put(tmp_path, *calls(range(10, 14), "lost"))
    one = shipper(postgres_database, tmp_path, clock=clock)
    ship(one)
    path.write_bytes(copy)
    put(tmp_path, *calls(range(10, 16), "new"))
    with capture_logs() as told:
        ship(one)
    assert [line["event"] for line in told] == ["ledger_file_went_back"]
    clock.at += control.AMISS_S
    ship(one)
    assert {row[2] for row in records_in(postgres_database)} == {
        *(f"call-{number:06}" for number in range(10)),
        *(f"lost-{number:06}" for number in range(10, 14)),
        *(f"new-{number:06}" for number in range(10, 16)),
    }
    assert_sums_are_those_of_the_records(postgres_database)


async def test_of_a_file_that_went_back_nothing_is_added_again_whose_month_was_dropped(
    tmp_path: Path, postgres_database: Database
) -> None:
    path = put(tmp_path, *calls(range(5), started_at=NOON - 70 * DAY_US))
    copy = path.read_bytes()
    put(tmp_path, *calls(range(5, 9), "lost"))
    ship(shipper(postgres_database, tmp_path))
    partitions.drop_before(postgres_database, NOON - 50 * DAY_US)
    path.write_bytes(copy)
    put(tmp_path, *calls(range(5, 8), "new"))
    with capture_logs() as told:
        ship(shipper(postgres_database, tmp_path))
    assert [(line["event"], line["again_from"]) for line in told] == [("ledger_file_went_back", 6)]
    ship(shipper(postgres_database, tmp_path))
    assert rows(postgres_database, "SELECT sum(calls) FROM usage_hourly") == [(12,)]


async def test_chores_are_done_by_one_and_partitions_are_made_ahead(
    tmp_path: Path, postgres_database: Database
) -> None:
    clock = Clock()
    one = shipper(postgres_database, tmp_path, clock=clock, retention_us=62 * 86_400_000_000)
    put(tmp_path, sample("old", started_at=NOON - 150 * 86_400_000_000), sample("new"))
    ship(one)
    ahead = ["usage_records_2026_11", "usage_records_2026_12", "usage_records_2027_01"]
    partitions = (
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_records'::regclass ORDER BY 1"
    )
    assert rows(postgres_database, partitions) == [(name,) for name in ahead]
    assert [row[2] for row in records_in(postgres_database)] == ["new"]
    [(sum_of_calls,)] = rows(postgres_database, "SELECT sum(calls) FROM usage_hourly")
    assert sum_of_calls == 2


async def test_the_mark_says_how_far_a_file_is_shipped(tmp_path: Path, postgres_database: Database) -> None:
    clock = Clock()
    path = put(tmp_path, *calls(range(4)))
    file_id = records_of(path)[0][0]
    ship(shipper(postgres_database, tmp_path, clock=clock))
    assert mark_of(path).read_text() == f"{file_id} 4\n"
