"""The ledger as the event loop uses it, its start-up, and its death at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from proxy.billing import reports
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken, LedgerLocked, LedgerUnusable
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import UsageRecord
from proxy.errors import ProxyRefused, Reason
from tests.billing.sample import NOON, lease, sample

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[Ledger]:
    """A ledger without a tick: only what is posted moves it."""
    ledger = Ledger.open(data_dir, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096, tick_s=60)
    try:
        yield ledger
    finally:
        await ledger.close()


def recorded(data_dir: Path) -> list[UsageRecord]:
    return list(reports.export(ledger_files(data_dir)))


def leased(data_dir: Path) -> list[str]:
    with closing(sqlite3.connect(data_dir / "ledger" / "0.db")) as connection:
        return [row[0] for row in connection.execute("SELECT record_id FROM leases ORDER BY record_id")]


async def test_a_lease_and_a_record_stand_in_the_file_when_they_are_awaited(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.open_lease(lease("a"))
        assert leased(tmp_path) == ["a"]

        await ledger.write(sample("a"))
        assert recorded(tmp_path) == [sample("a")]


async def test_a_record_takes_its_lease_away_in_its_own_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.open_lease(lease("a"))
        await ledger.open_lease(lease("b"))
        await ledger.write(sample("a"))
        assert leased(tmp_path) == ["b"]


async def test_a_lease_that_was_not_waited_for_does_not_stand(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        with anyio.move_on_after(0):
            await ledger.open_lease(lease("a"))
    assert leased(tmp_path) == []


async def test_a_dropped_lease_goes_at_once_and_leaves_no_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.open_lease(lease("a"))
        ledger.drop_lease("a")
        with anyio.fail_after(10):
            while leased(tmp_path):
                await anyio.sleep(0.005)
    async with opened(tmp_path):
        assert recorded(tmp_path) == []


async def test_what_a_dropped_lease_holds_is_given_back_when_it_is_gone(tmp_path: Path) -> None:
    """Not before: a process that died in between would leave a call on the bill that no limit counts."""
    async with opened(tmp_path) as ledger:
        await ledger.open_lease(lease("a"))
        stood: list[list[str]] = []
        gone = asyncio.Event()
        ledger.drop_lease("a", lambda: stood.append(leased(tmp_path)) or gone.set())
        assert stood == []
        with anyio.fail_after(10):
            await gone.wait()
    assert stood == [[]]


async def test_a_record_written_again_stands_once_as_it_was_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await asyncio.gather(*(ledger.write(sample("a", images=number)) for number in range(1, 5)))
        await ledger.write(sample("a", images=9))

    assert recorded(tmp_path) == [sample("a", images=1)]
    assert reports.report(ledger_files(tmp_path), [])[0].images == 1


async def test_what_a_cancelled_waiter_posted_is_written_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger, asyncio.TaskGroup() as group:
        writing = group.create_task(ledger.write(sample("a")))
        await asyncio.sleep(0)
        writing.cancel()
        await ledger.write(sample("b"))

    assert [record.record_id for record in recorded(tmp_path)] == ["a", "b"]


async def test_the_record_is_taken_as_it_is_when_it_is_posted(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger, asyncio.TaskGroup() as group:
        record = sample("a")
        group.create_task(ledger.write(record))
        await asyncio.sleep(0)
        record.images, record.prompt_tokens_details = 99, {"AUDIO": 1}

    assert recorded(tmp_path) == [sample("a")]


async def test_closing_commits_all_that_was_posted_and_may_be_repeated(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger, asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(ledger.write(sample(f"{number:02}")))
        await asyncio.sleep(0)
        await asyncio.gather(ledger.close(), ledger.close())

    assert not (tmp_path / "ledger" / "0.db-wal").exists()
    assert len(recorded(tmp_path)) == 50


async def test_a_closed_ledger_takes_nothing_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.close()
        assert not ledger.available
        with pytest.raises(ProxyRefused) as refused:
            await ledger.open_lease(lease("a"))
        assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
        with pytest.raises(LedgerBroken):
            await ledger.write(sample("a"))


async def test_a_second_ledger_on_the_same_data_dir_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(LedgerLocked, match=f"process {os.getpid()}"):
            Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail)
    async with opened(tmp_path) as ledger:
        assert ledger.available


async def test_what_a_predecessor_left_open_is_closed_out_before_the_door_opens(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        for record_id in "abc":
            await ledger.open_lease(lease(record_id, started_at=NOON - 9))
        await ledger.write(sample("b"))

    async with opened(tmp_path):
        assert leased(tmp_path) == []
    assert sorted(recorded(tmp_path), key=lambda record: record.record_id) == [
        lease("a", started_at=NOON - 9, finished_at=NOON),
        sample("b"),
        lease("c", started_at=NOON - 9, finished_at=NOON),
    ]


async def test_a_lease_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.open_lease(lease("a"))
    with closing(sqlite3.connect(tmp_path / "ledger" / "0.db")) as connection, connection:
        connection.execute("UPDATE leases SET record = x'7b'")

    with pytest.raises(LedgerUnusable, match="lease a in"):
        Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail)
    assert leased(tmp_path) == ["a"]
    with closing(sqlite3.connect(tmp_path / "ledger" / "0.db")) as connection, connection:
        connection.execute("DELETE FROM leases")
    async with opened(tmp_path) as ledger:
        assert ledger.available


KILLED = """
import asyncio, os, sys, time
from pathlib import Path
from proxy.billing.ledger import Ledger
from tests.billing.sample import lease, sample

async def call(ledger, record_id):
    await ledger.open_lease(lease(record_id))
    os.write(1, f"leased {record_id}\\n".encode())
    await ledger.write(sample(record_id))
    os.write(1, f"written {record_id}\\n".encode())

async def calls(ledger, worker):
    for number in range(100_000):
        await call(ledger, f"{os.getpid()}-{worker}-{number}")

async def main():
    ledger = Ledger.open(Path(sys.argv[1]), now_us=lambda: time.time_ns() // 1_000, on_broken=print, ballast_bytes=4096)
    await asyncio.gather(*(calls(ledger, worker) for worker in range(16)))

asyncio.run(main())
"""


def kill_under_load(data_dir: Path, after: int) -> list[tuple[str, str]]:
    """What a writing process had acknowledged when it was killed: ("leased" or "written", record_id)."""
    with subprocess.Popen([sys.executable, "-c", KILLED, data_dir], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    return [(word, record_id) for word, record_id in (line.split() for line in lines if line.endswith("\n"))]


async def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """After `kill -9` each acknowledged record stands once; each acknowledged lease without one became `unsettled`."""
    told: list[tuple[str, str]] = []
    for _ in range(3):
        told += kill_under_load(tmp_path, after=random.randint(1, 3_000))
        async with opened(tmp_path):
            assert leased(tmp_path) == []

    records = {record.record_id: record for record in recorded(tmp_path)}
    assert set(Counter(record.record_id for record in recorded(tmp_path)).values()) == {1}
    for word, record_id in told:
        assert records[record_id].outcome in (("ok",) if word == "written" else ("ok", "unsettled"))
    assert sum(row.calls for row in reports.report(ledger_files(tmp_path), ["outcome"])) == len(records)
    with closing(sqlite3.connect(tmp_path / "ledger" / "0.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
