"""A disk that fails or is full: nothing is completed without a record, what can't be recorded doesn't go up."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx2
import pytest

from tests.disk import Disk, Replay, lay_out
from tests.journeys.chain import Gate
from tests.journeys.limited import used, with_limits
from tests.journeys.numbered import Load, account, compare, forget
from tests.journeys.test_power_loss import recover
from tests.journeys.watching import open_leases, until
from tests.proof import WHOLE, Proof, sized
from tests.servers import running
from tests.stand import Weighbridge

BROKEN = 74
"""EX_IOERR of sysexits(3)."""
FAULTS = [("sync", "0.db-wal"), ("write", "0.db-wal"), ("sync", "0.db"), ("write", "0.db")]
"""The file itself is written and fsynced by checkpoints only, after some hundred calls."""


async def fail(stand: Weighbridge, disk: Disk, load: Load, key: str, fault: tuple[str, str]) -> None:
    """A server under load, from its start to its end by an error of its disk."""
    await asyncio.to_thread(stand.start)
    calling = asyncio.get_running_loop().create_task(load.run(stand, key))
    await load.more(random.randrange(1, 100))
    disk.fault(*fault, errno.EIO)
    await asyncio.wait_for(calling, 60)
    assert await asyncio.to_thread(stand.wait) == BROKEN


def refused_before_they_went_up(load: Load, upstream: str) -> None:
    assert {answer.status_code for answer in load.refused.values()} <= {503}
    assert {answer.headers["x-weighbridge-refused"] for answer in load.refused.values()} <= {"LEDGER_UNAVAILABLE"}
    assert not load.refused.keys() & account(upstream).keys()


async def test_disk_errors(upstream: str, watched_disk: Disk, tmp_path: Path, at_end: ExitStack, proof: Proof) -> None:
    """An error of the disk ends the server; the next finds all that was received whole, also if the power goes off.

    What a failed fsync was to write may be seen by the next server, and be gone after a power loss.
    """
    forget(upstream)
    chance = random.Random(seed := random.randrange(10**9))
    print("seed", seed)
    stand = at_end.enter_context(
        closing(Weighbridge(watched_disk.root, upstream, environment=watched_disk.environment))
    )
    load = Load(seed, clock=lambda: watched_disk.now)
    stand.run("project", "create", "alice")
    key = json.loads(stand.run("key", "create", "alice", "--json"))["key"]
    faults, ends = FAULTS * 5 if WHOLE else FAULTS[:2], []
    for fault in faults:
        await fail(stand, watched_disk, load, key, fault)
        ends.append(watched_disk.now)
    await asyncio.to_thread(stand.start)
    assert await asyncio.to_thread(stand.stop) == 0
    outcomes = compare(stand.records(), account(upstream), load.whole)
    refused_before_they_went_up(load, upstream)
    assert stand.log().count("ledger_broken") == len(faults)

    cuts = sorted([*ends, *chance.choices([whole.at for whole in load.whole.values()], k=sized(10, 200))])
    replay, after = Replay(watched_disk.calls()), Weighbridge(tmp_path / "after", upstream)
    for cut in cuts:
        replay.forward(cut)
        lay_out(replay.after_power_loss(), after.folder)
        recover(after.data_dir)
        whole = {number: whole for number, whole in load.whole.items() if whole.at <= cut}
        compare(after.records(), account(upstream), whole, lost_leases=True)
        shutil.rmtree(after.folder)
    proof(errors=len(faults), power_losses=len(cuts), calls=load.numbers, outcomes=dict(outcomes))


def test_a_ledger_that_cannot_be_read_is_told_at_start_and_left_as_it_is(
    upstream: str, watched_disk: Disk, at_end: ExitStack
) -> None:
    stand = at_end.enter_context(
        closing(Weighbridge(watched_disk.root, upstream, environment=watched_disk.environment))
    )
    stand.start()
    stand.stop()
    before = (stand.data_dir / "ledger/0.db").read_bytes()
    watched_disk.fault("read", "ledger/0.db", errno.EIO, number=0)
    stand.spawn()
    assert stand.wait() == 1
    assert "0.db can't be opened: disk I/O error (SQLITE_IOERR_" in stand.log()
    assert "Look at the disk's space and health" in stand.log()
    assert (stand.data_dir / "ledger/0.db").read_bytes() == before


class LoopDisk:
    """An ext4 of 128 MiB of its own, mounted where a server keeps its data. Mounting it takes root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leaves no free block."""
        with self._filler.open("ab", buffering=0) as filler:
            for piece in (1 << 20, 4096):
                with suppress(OSError):
                    while filler.write(bytes(piece)):
                        pass

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def loop_disk(tmp_path: Path) -> Iterator[LoopDisk]:
    image, path = tmp_path / "image", tmp_path / "data"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, path], check=True)
    yield LoopDisk(path)
    subprocess.run(["umount", "--lazy", path], check=True)  # even where a failed test left a file open


def ready(stand: Weighbridge) -> set[int]:
    return {httpx2.get(f"{door}/readyz").status_code for door in (stand.base_url, stand.admin_url)}


async def test_on_a_full_disk_calls_in_flight_are_recorded_and_new_ones_refused_until_there_is_room(
    tmp_path: Path, at_end: ExitStack, loop_disk: LoopDisk
) -> None:
    """Also where it is full when the server starts."""
    gate, early, late = Gate(), Load(1), Load(2, numbers=5000)
    ballast = loop_disk.path / "ledger/0.ballast"
    with running(gate) as upstream:
        stand = at_end.enter_context(closing(Weighbridge(tmp_path, upstream)))
        stand.start()
        key = with_limits(stand, "rpd=1000000", "concurrency=1000")
        with gate.closed():
            calling = [asyncio.get_running_loop().create_task(early.run(stand, key))]
            await asyncio.to_thread(until, lambda: open_leases(stand.data_dir) >= early.at_once, "calls in flight")
            loop_disk.fill()
            calling.append(asyncio.get_running_loop().create_task(late.run(stand, key)))
            await asyncio.to_thread(until, lambda: len(late.refused) > 20, "calls are refused")
            assert await asyncio.to_thread(ready, stand) == {503}
            assert not ballast.exists()
        await asyncio.to_thread(until, lambda: open_leases(stand.data_dir) == 0, "the calls in flight are recorded")
        assert await asyncio.to_thread(ready, stand) == {503}
        await asyncio.to_thread(until, lambda: early.whole, "one of them was received whole")
        loop_disk.free()
        await early.more(20)
        await late.more(20)
        assert await asyncio.to_thread(ready, stand) == {200}
        assert ballast.stat().st_size == 64 << 20
        await asyncio.to_thread(stand.stop, signal.SIGKILL)
        await asyncio.gather(*calling)

        loop_disk.fill()
        await asyncio.to_thread(stand.start)
        assert not ballast.exists()
        assert await asyncio.to_thread(ready, stand) == {503}
        calling = [asyncio.get_running_loop().create_task(early.run(stand, key))]
        refused = len(early.refused)
        await asyncio.to_thread(until, lambda: len(early.refused) > refused + 20, "calls are refused")
        loop_disk.free()
        await early.more(20)
        early.enough = True
        await asyncio.gather(*calling)
        taken = {"rpd": len(stand.records()), "concurrency": 0}
        await asyncio.to_thread(until, lambda: used(stand) == taken, "limits count what was let in, and nothing else")
        assert await asyncio.to_thread(stand.stop) == 0
        assert ballast.stat().st_size == 64 << 20
        compare(stand.records(), account(upstream), early.whole | late.whole)
        recorded = {record.request_id for record in stand.records()}
        for load in (early, late):
            refused_before_they_went_up(load, upstream)
            assert not {answer.headers["x-weighbridge-request-id"] for answer in load.refused.values()} & recorded
        assert open_leases(stand.data_dir) == 0
