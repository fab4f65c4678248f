"""Whatever happens, in whatever order: no budget is ever over, and when all is quiet, accounts are what ledgers say."""

from __future__ import annotations

import asyncio
import random
from collections import Counter as Tally
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from proxy.errors import ProxyRefused
from proxy.limits import roll
from tests.contracts.fleet import Fleet, Worker, budget
from tests.proof import WHOLE, Proof, sized
from tests.redis_servers import RedisServer, running_redis

BUDGETS = budget(60), budget(35, "bob", "day")
WORKERS = ("a", "b", "c")


class History:
    """Some dozens of steps, a few of them at the same time. What a call costs is at most what is held for it."""

    def __init__(self, server: RedisServer, fleet: Fleet, at_random: random.Random, done: Tally[str]) -> None:
        self.server = server
        self.fleet = fleet
        self.random = at_random
        self.done = done
        self.calls = 0
        self.frozen: set[str] = set()

    async def run(self, steps: int) -> None:
        await self.fleet.start("control", *WORKERS)
        happens = {
            self.reserve: 40,
            self.end: 30,
            self.empty: 4,
            self.snapshot: 6,
            self.restart: 4,
            self.succeed: 4,
            self.leave_and_come: 3,
            self.freeze: 3,
            self.thaw: 4,
        }
        for _ in range(steps):
            some = self.random.choices(list(happens), list(happens.values()), k=self.random.choice([1, 1, 3]))
            await asyncio.gather(*(step() for step in some))
            self.never_over()
        await self.quiet()

    def never_over(self) -> None:
        for one in BUDGETS:
            assert self.fleet.ledgers.total(one.project) <= one.value, "a budget is over"

    async def quiet(self) -> None:
        """All are there again, and nothing is asked any more."""
        for name in tuple(self.frozen):
            self.frozen.discard(name)
            self.fleet.workers[name].thaw()
        for one in BUDGETS:
            for worker in self.fleet.workers.values():
                await worker.used(one)
            for worker in self.fleet.workers.values():
                total = self.fleet.ledgers.total(one.project)
                assert (await worker.used(one)).used == total, f"{worker.name} counts otherwise"
        self.never_over()

    def anyone(self) -> Worker | None:
        names = [name for name in self.fleet.workers if name not in self.frozen]
        return self.fleet.workers[self.random.choice(names)] if names else None

    async def reserve(self) -> None:
        self.calls += 1
        call, of, usd = f"call {self.calls}", self.random.choice(BUDGETS), self.random.choice([1, 3, 8, 20])
        if worker := self.anyone():
            try:
                granted = await worker.reserve(call, of, usd)
                self.done["granted" if granted else "refused"] += 1
            except ProxyRefused:
                self.done["closed"] += 1

    async def end(self) -> None:
        worker = self.anyone()
        if worker is None or not (mine := self.fleet.ledgers.open[worker.name]):
            return
        record_id, (_, held) = self.random.choice(list(mine.items()))
        if self.random.random() < 0.2:
            worker.cancel(record_id)
        else:
            worker.settle(record_id, self.random.randint(0, held) // 3)
        self.done["ended"] += 1

    async def empty(self) -> None:
        with self.server.client as client, suppress(OSError):
            client.flushall()
        self.done["emptied"] += 1

    async def snapshot(self) -> None:
        with self.server.client as client:
            client.save()

    async def restart(self) -> None:
        """With what it saved, which may be old: as a replica that lagged."""
        self.server.stop()
        if self.random.random() < 0.3:
            (self.server.folder / "dump.rdb").unlink(missing_ok=True)
        self.server.start()
        self.done["restarted"] += 1

    async def succeed(self) -> None:
        """One is killed, and the next takes its place, sooner or later."""
        name = self.random.choice(("control", *WORKERS))
        if name in self.fleet.workers and name not in self.frozen:
            await self.fleet.kill(name)
            await asyncio.sleep(self.random.choice([0, 0, 0.1]))
            await self.fleet.start(name)
            self.done["killed"] += 1

    async def leave_and_come(self) -> None:
        name = self.random.choice(WORKERS)
        if name in self.fleet.workers and name not in self.frozen and not self.fleet.ledgers.open[name]:
            await self.fleet.leave(name)
            await asyncio.sleep(self.random.choice([0, 0.1]))
            await self.fleet.start(name)
            self.done["left"] += 1

    async def freeze(self) -> None:
        name = self.random.choice(WORKERS)
        if name in self.fleet.workers and name not in self.frozen:
            self.frozen.add(name)
            await self.fleet.workers[name].freeze()
            if self.random.random() < 0.5:
                await asyncio.sleep(roll.LIVE_MS / 1000)
            self.done["frozen"] += 1

    async def thaw(self) -> None:
        if self.frozen:
            name = self.random.choice(sorted(self.frozen))
            self.frozen.discard(name)
            self.fleet.workers[name].thaw()


def test_no_budget_is_ever_over_and_all_accounts_come_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    """Redis emptied, restarted with older data; workers killed, gone, come, frozen until they count as dead."""
    monkeypatch.setattr(roll, "LIVE_MS", 3_000)
    done: Tally[str] = Tally()
    histories, steps = sized(3, 200), sized(25, 60)

    async def run(number: int, seed: int) -> None:
        with running_redis(tmp_path / str(number)) as server:
            async with Fleet(server.url) as fleet:
                await History(server, fleet, random.Random(seed), done).run(steps)

    for number in range(histories):
        seed = random.randrange(10**6) if WHOLE else number
        try:
            uvloop.run(run(number, seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    proof(histories=histories, steps=histories * steps, **dict(sorted(done.items())))
