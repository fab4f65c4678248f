"""A disk that fails: calls are broken off, never completed without a record; the restart finds what the disk holds."""

from __future__ import annotations

import asyncio
import errno
import json
import random
from pathlib import Path

import pytest

from tests.disk import Disk, Replay, lay_out
from tests.journeys.numbered import Load, account, compare, forget
from tests.journeys.test_power_loss import recover
from tests.proof import Proof, sized
from tests.stand import Weighbridge

BROKEN = 74
"""EX_IOERR of sysexits(3)."""


async def fails(stand: Weighbridge, disk: Disk, load: Load, key: str, fault: tuple[str, str]) -> None:
    """A server under load whose disk fails it, from start to end."""
    stand.start()
    calling = asyncio.get_running_loop().create_task(load.run(stand, key))
    await load.more(60)
    disk.fault(*fault, errno.EIO)
    await asyncio.wait_for(calling, 60)
    assert await asyncio.to_thread(stand.wait) == BROKEN


FAULTS = [("sync", "0.db-wal"), ("write", "0.db-wal"), ("sync", "0.db"), ("write", "0.db")]


@pytest.mark.proof
async def test_disk_errors(upstream: str, watched_disk: Disk, tmp_path: Path, proof: Proof) -> None:
    forget(upstream)
    stand = Weighbridge(watched_disk.root, upstream, environment=watched_disk.environment)
    load = Load(random.randrange(10**9), clock=lambda: watched_disk.now)
    stand.run("project", "create", "alice")
    key = json.loads(stand.run("key", "create", "alice", "--json"))["key"]
    for fault in FAULTS:
        await fails(stand, watched_disk, load, key, fault)
        assert "ledger_broken" in stand.log()
        assert {answer.headers["x-weighbridge-refused"] for answer in load.refused.values()} <= {"LEDGER_UNAVAILABLE"}
    stand.start()
    assert stand.stop() == 0
    compare(stand.records(), account(upstream), load.whole)
    cuts = sorted({whole.at for whole in load.whole.values()})
    replay = Replay(watched_disk.calls())
    for number, cut in enumerate(cuts[:: len(cuts) // sized(20, 200)]):
        replay.forward(cut)
        lay_out(replay.after_power_loss(), tmp_path / f"after-{number}")
        recover(tmp_path / f"after-{number}" / "data")
        after = Weighbridge(tmp_path / f"after-{number}", upstream)
        whole = {number: whole for number, whole in load.whole.items() if whole.at <= cut}
        compare(after.records(), account(upstream), whole, lost_leases=True)
    proof(faults=len(FAULTS))
