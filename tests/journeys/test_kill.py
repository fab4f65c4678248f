"""Killed at any moment: what a client received whole is on the ledger once, what reached the upstream is never lost."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from tests.disk import Disk
from tests.journeys.chain import Chain
from tests.journeys.numbered import Load, account, compare, forget
from tests.journeys.stopping import STEPS, Step
from tests.journeys.watching import open_leases
from tests.proof import WHOLE, Proof, sized
from tests.stand import Weighbridge

LATE = dict(list(STEPS.items())[list(STEPS).index("first byte came down") : -1])
"""What is left to happen once a client has left."""


def some(steps: Mapping[str, Step], first: int, every: int) -> dict[str, Step]:
    """Some of the steps; whole, all of them."""
    return dict(steps if WHOLE else list(steps.items())[first::every])


def test_kill_matrix(tmp_path: Path, proof: Proof) -> None:
    """Killed at each step of a call: recorded, `unsettled` or not there, as the step says; at each start the same.

    Quick, each step is taken with one kind of call; whole, with each.
    """
    steps = {"single": some(STEPS, 0, 2), "stream": some(STEPS, 1, 2), "left": some(LATE, 3, 9)}
    with ExitStack() as around, ThreadPoolExecutor() as threads:
        chains = [Chain(tmp_path / kind, kind, around) for kind in steps]
        counts = dict(zip(steps, threads.map(Chain.run, chains, steps.values()), strict=True))
    proof(kills=sum(counts.values()), steps=len(STEPS), by_kind=counts)


async def test_random_kills(upstream: str, tmp_path: Path, at_end: ExitStack, proof: Proof) -> None:
    """Killed again and again under load, at random: each time the ledger holds against the emulator's own account."""
    forget(upstream)
    chance = random.Random(seed := random.randrange(10**9))
    print("seed", seed)
    stand, load = at_end.enter_context(closing(Weighbridge(tmp_path, upstream))), Load(seed)
    key, kills = stand.key(), sized(4, 50)
    for _ in range(kills):
        await asyncio.to_thread(stand.start)  # closes out what was left
        compare(stand.records(), account(upstream), load.whole)
        assert open_leases(stand.data_dir) == 0
        calling = asyncio.get_running_loop().create_task(load.run(stand, key))
        await load.more(chance.randrange(1, 150))
        await asyncio.sleep(chance.random() * 0.01)
        await asyncio.to_thread(stand.stop, signal.SIGKILL)
        await calling
    for _ in range(2):
        await asyncio.to_thread(stand.start)
        outcomes = compare(stand.records(), account(upstream), load.whole)
        assert await asyncio.to_thread(stand.stop) == 0
    proof(kills=kills, calls=load.numbers, received_whole=len(load.whole), outcomes=dict(outcomes))


def test_kills_within_a_commit(watched_disk: Disk, tmp_path: Path, proof: Proof) -> None:
    """Killed before each write to the write-ahead log that a call brings about, and around the record's fsync."""
    with ExitStack() as around:
        chain = Chain(watched_disk.root / "stand", "single", around, watched_disk.environment)
        kills = chain.run_into(watched_disk, range(1, 100, sized(5, 1)))
    proof(kills=kills)
