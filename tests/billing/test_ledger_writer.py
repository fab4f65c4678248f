"""What the writer does when the disk, another process or a value stands in its way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import anyio
import pytest

from proxy.billing import ledger_file, reports
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken, RowRefused
from proxy.billing.ledger_reading import ledger_files
from proxy.errors import ProxyRefused, Reason
from tests.billing.conftest import SmallDisk
from tests.billing.sample import NOON, lease, sample

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger.open(
        data_dir, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=1 << 20, tick_s=0.02, patience_s=20
    )
    try:
        yield ledger
    finally:
        await ledger.close()


def recorded(data_dir: Path) -> list[str]:
    return [record.record_id for record in reports.export(ledger_files(data_dir))]


async def until(ledger: Ledger, available: bool) -> None:
    with anyio.fail_after(10):
        while ledger.available is not available:
            await anyio.sleep(0.005)


async def refused(ledger: Ledger) -> tuple[int, ProxyRefused]:
    """Opens leases until one is refused: how many weren't, and the refusal."""
    for number in range(10_000):
        try:
            await ledger.open_lease(lease(f"filling-{number}"))
        except ProxyRefused as refusal:
            return number, refusal
    raise AssertionError("a full disk took 10,000 leases")


async def test_on_a_full_disk_calls_in_flight_are_recorded_and_new_ones_refused_until_there_is_space(
    small_disk: SmallDisk,
) -> None:
    async with opened(small_disk.path) as ledger:
        await ledger.open_lease(lease("in-flight"))
        small_disk.fill()

        taken, refusal = await refused(ledger)
        assert refusal.reason is Reason.LEDGER_UNAVAILABLE
        assert not ledger.available
        with pytest.raises(ProxyRefused, match=r"disk is full.*Free space"):
            await ledger.open_lease(lease("late"))
        await ledger.write(sample("in-flight"))
        ledger.drop_lease("in-flight")
        assert recorded(small_disk.path) == ["in-flight"]

        small_disk.free()
        await until(ledger, available=True)
        await ledger.open_lease(lease("afterwards"))
    async with opened(small_disk.path):
        left = set(recorded(small_disk.path)) - {"in-flight"}
        assert len(left) == taken + 1  # the refused leases left nothing behind


async def test_a_record_waits_where_even_the_ballast_was_not_enough(small_disk: SmallDisk) -> None:
    async with opened(small_disk.path) as ledger:
        small_disk.fill()
        await refused(ledger)
        small_disk.fill()
        writing = [asyncio.get_running_loop().create_task(ledger.write(sample(f"{number}"))) for number in range(3_000)]
        _, waiting = await asyncio.wait(writing, timeout=0.5)
        assert waiting

        small_disk.free()
        await asyncio.gather(*writing)
        assert len(recorded(small_disk.path)) == 3_000


async def test_a_server_starts_on_a_full_disk_and_closes_out_its_predecessor(small_disk: SmallDisk) -> None:
    async with opened(small_disk.path) as ledger:
        for number in range(20):
            await ledger.open_lease(lease(f"lost-{number:02}"))
    small_disk.fill()

    async with opened(small_disk.path) as ledger:
        assert not ledger.available
        assert len(recorded(small_disk.path)) == 20
        small_disk.free()
        await until(ledger, available=True)


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Another process, here another connection, has the ledger file locked."""
    with closing(sqlite3.connect(data_dir / "ledger" / "0.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_while_another_process_has_the_file_locked_records_wait_and_new_calls_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "LOCK_WAIT_S", 0.05)
    async with opened(tmp_path) as ledger:
        for record_id in ("in-flight", "not-sent"):
            await ledger.open_lease(lease(record_id))
        with held(tmp_path):
            writing = asyncio.get_running_loop().create_task(ledger.write(sample("in-flight")))
            await asyncio.sleep(0.01)  # the writer waits with it, and doesn't know yet for how long
            with pytest.raises(ProxyRefused, match=r"Another process has.*locked.*End that one") as refused:
                await ledger.open_lease(lease("late"))
            assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
            assert not ledger.available
            ledger.drop_lease("not-sent")
            with pytest.raises(ProxyRefused, match="locked"):
                await ledger.open_lease(lease("later"))
            assert not writing.done()
        await writing
        await until(ledger, available=True)
        await ledger.open_lease(lease("afterwards"))
        await ledger.write(sample("afterwards"))
    async with opened(tmp_path):
        assert recorded(tmp_path) == ["in-flight", "afterwards"]


async def test_a_lock_that_no_record_waits_for_breaks_nothing_however_long_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "LOCK_WAIT_S", 0.02)
    ledger = Ledger.open(
        tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=0, tick_s=0.02, patience_s=0.05
    )
    await ledger.open_lease(lease("not-sent"))
    with held(tmp_path):
        with pytest.raises(ProxyRefused):
            await ledger.open_lease(lease("late"))
        ledger.drop_lease("not-sent")
        for _ in range(20):
            await anyio.sleep(0.02)
            assert not ledger.available
    await until(ledger, available=True)
    await ledger.close()
    async with opened(tmp_path):
        assert recorded(tmp_path) == []


async def test_a_value_that_cannot_be_written_fails_its_own_record_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        records = [
            sample("a"),
            sample("huge", images=2**63),
            sample("odd", model="\ud800"),
            sample("text", images="many"),
            sample("b"),
        ]
        results = await asyncio.gather(*map(ledger.write, records), return_exceptions=True)

        assert [type(result) for result in results] == [type(None), RowRefused, RowRefused, RowRefused, type(None)]
        await ledger.write(sample("c"))
    assert recorded(tmp_path) == ["a", "b", "c"]


async def test_the_wal_is_moved_into_the_file_as_it_grows(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        for number in range(0, 6_000, 100):
            await asyncio.gather(*(ledger.write(sample(f"{at}")) for at in range(number, number + 100)))
        size = {path.name: path.stat().st_size for path in (tmp_path / "ledger").iterdir()}
        assert size["0.db"] > 2 * size["0.db-wal"]


BREAKING = """
import asyncio, json, resource, sys
from pathlib import Path
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken
from proxy.errors import ProxyRefused
from tests.billing.sample import lease, sample

async def main(data_dir):
    broken = []
    ledger = Ledger.open(data_dir, now_us=lambda: 1, on_broken=broken.append, ballast_bytes=4096, patience_s=0.2)
    await ledger.open_lease(lease("in-flight"))
    wal = data_dir / "ledger" / "0.db-wal"
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 100_000,) * 2)
    written, errors = [], []
    async def write(number):
        try:
            await ledger.write(sample(str(number)))
            written.append(str(number))
        except LedgerBroken as error:
            errors.append(str(error))
    for number in range(0, 5_000, 10):
        await asyncio.gather(*map(write, range(number, number + 10)))
        if errors:
            break
    try:
        await ledger.open_lease(lease("late"))
        refused = None
    except ProxyRefused as error:
        refused = error.reason.word
    await write("late")
    await ledger.close()
    print(json.dumps({"written": written, "errors": errors, "broken": list(map(str, broken)), "refused": refused,
                      "available": ledger.available}))

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_failing_disk_breaks_the_ledger_once_and_a_successor_finds_all_that_was_promised(
    tmp_path: Path,
) -> None:
    """Beyond RLIMIT_FSIZE the kernel fails the write with EFBIG, which SQLite reports as SQLITE_IOERR_WRITE."""
    ended = subprocess.run([sys.executable, "-c", BREAKING, tmp_path], capture_output=True, text=True, check=True)
    told = json.loads(ended.stdout)

    assert told["errors"]
    assert all("SQLITE_IOERR_WRITE" in error for error in told["errors"])
    assert told["broken"] == told["errors"][:1]
    assert told["refused"] == "LEDGER_UNAVAILABLE"
    assert not told["available"]
    async with opened(tmp_path):
        pass
    found = recorded(tmp_path)
    assert len(found) == len(set(found))
    assert set(told["written"]) | {"in-flight"} <= set(found)


async def test_patience_with_another_process_ends_in_a_broken_ledger(tmp_path: Path) -> None:
    script = """
import asyncio, sqlite3, sys
from pathlib import Path
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken
from tests.billing.sample import sample

async def main(data_dir):
    ledger = Ledger.open(
        data_dir, now_us=lambda: 1, on_broken=lambda _: print("broken"), ballast_bytes=0, patience_s=0.1
    )
    other = sqlite3.connect(data_dir / "ledger" / "0.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        await ledger.write(sample("a"))
    except LedgerBroken as error:
        print(error)

asyncio.run(main(Path(sys.argv[1])))
"""
    ended = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)

    assert "(SQLITE_BUSY). This process ends; end the process that holds it before it is started again" in ended.stdout
    assert ended.stdout.count("broken\n") == 1


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("idle", [False, True])
async def test_a_ledger_that_was_moved_away_takes_no_records_that_nobody_would_find(
    tmp_path: Path, replaced: bool, idle: bool
) -> None:
    broken: list[LedgerBroken] = []
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=broken.append, ballast_bytes=0, tick_s=0.01)
    await ledger.open_lease(lease("in-flight"))
    (tmp_path / "ledger").rename(tmp_path / "moved")
    if replaced:
        async with opened(tmp_path):
            pass
    with anyio.fail_after(10):
        while not broken:
            if idle:
                await anyio.sleep(0.005)
                continue
            with contextlib.suppress(LedgerBroken):
                await ledger.open_lease(lease("late"))
                ledger.drop_lease("late")
        with pytest.raises(LedgerBroken, match="moved, removed or replaced"):
            await ledger.write(sample("in-flight"))
        await ledger.close()
    assert [str(error).count("This process ends") for error in broken] == [1]
