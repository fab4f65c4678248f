"""What happens to a fleet, one after another, while calls are made: stores go and come back, processes die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tests.chaos.callers import Tally
from tests.fleet.fleet import Fleet
from tests.fleet.load import MONEY, Origin
from tests.fleet.node import Node
from tests.journeys.watching import DEADLINE_S, until

T = TypeVar("T")

OPEN = 8
"""Calls in a row whose budgets were open."""
CLOSED_S = 150.0
"""Within which budgets are open again: who isn't heard counts as live for a minute."""


@dataclass
class Fault:
    """What happened, and when it began and was over, by a clock that nobody sets. A kill is over at once."""

    name: str
    began: float
    over: float = 0.0
    settled: float = 0.0
    """When budgets were open again: who comes back, or joins, says first what it spent, and all wait for that."""

    def meets(self, sent: float, ended: float) -> bool:
        return sent <= self.over and ended >= self.began

    def closes_budgets(self, sent: float) -> bool:
        return self.began <= sent <= self.settled


@dataclass
class Scene:
    """A fleet under calls. `outage_s`: how long PostgreSQL is away, and Redis."""

    fleet: Fleet
    upstream: Origin
    tally: Tally
    outage_s: tuple[float, float]
    happened: list[Fault] = field(default_factory=list)

    async def postgres_stopped(self) -> None:
        away_s, _ = self.outage_s
        await asyncio.to_thread(self.fleet.postgres.stop)
        await asyncio.gather(asyncio.sleep(away_s), self.tally.more("made", 20))
        await asyncio.to_thread(self.fleet.postgres.start)

    async def redis_stopped(self) -> None:
        """Master and replica; then both know again what they had answered a second before."""
        _, away_s = self.outage_s
        redis, since = self.fleet.redis, self._logs()
        for server in (redis.master, redis.replica):
            await asyncio.to_thread(server.stop)
        await asyncio.gather(asyncio.sleep(away_s), self.tally.more(f"{MONEY}: LIMITER_UNAVAILABLE", 1))
        for server in (redis.master, redis.replica):
            await asyncio.to_thread(server.start)
        await self._limits_shared_again(since)

    async def redis_failed_over(self) -> None:
        """The master dies; the sentinel makes the replica master. What was, comes back as that one's replica."""
        redis, since = self.fleet.redis, self._logs()
        await asyncio.to_thread(redis.master.stop)
        await asyncio.to_thread(until, lambda: redis.now() == redis.replica.port, "the replica is master", 120)
        await self._limits_shared_again(since)
        await asyncio.to_thread(redis.master.start)

    async def worker_killed(self) -> None:
        node, slot = self.fleet.nodes[0], self.fleet.nodes[0].workers - 1
        killed = await self._in_the_midst(partial(node.kill_worker, slot))
        await asyncio.to_thread(node.replaced, slot, killed)
        await self.tally.more("made", 40)

    async def node_killed(self) -> None:
        """All its processes at once; then it is started again, on what its disk holds."""
        node = self.fleet.nodes[-1]
        await self._in_the_midst(node.power_off)
        await self.tally.more("made", 40)
        await asyncio.to_thread(node.start)

    async def _in_the_midst(self, kill: Callable[[], T]) -> T:
        """Kills while calls are under way. From then on nobody is called who isn't there: the fault is over."""
        await self.upstream.hold()
        try:
            return await asyncio.to_thread(kill)
        finally:
            self.happened[-1].over = time.monotonic()
            self.upstream.release()

    async def happens(self, what: Callable[[Scene], object]) -> None:
        fault = Fault(what.__name__, time.monotonic())
        self.happened.append(fault)
        await what(self)  # type: ignore[misc]
        fault.over = fault.over or time.monotonic()
        await budgets_open(self.tally)
        fault.settled = time.monotonic()

    def _logs(self) -> list[int]:
        return [len(node.log_bytes()) for node in self.fleet.nodes]

    async def _limits_shared_again(self, since: list[int]) -> None:
        """Waits until every worker that counted alone has told that it doesn't any more, and budgets are open."""
        marks = list(zip(self.fleet.nodes, since, strict=True))

        def back() -> bool:
            return all(_alone(node, mark) <= 0 for node, mark in marks)

        await asyncio.to_thread(until, back, "Redis counts again", DEADLINE_S)
        await budgets_open(self.tally)


async def budgets_open(tally: Tally) -> None:
    """Waits until nobody who has a budget is told to wait any more."""
    async with asyncio.timeout(CLOSED_S):
        while True:
            refused = tally[f"{MONEY}: LIMITER_UNAVAILABLE"]
            await tally.more(MONEY, OPEN)
            if tally[f"{MONEY}: LIMITER_UNAVAILABLE"] == refused:
                return


def _alone(node: Node, since: int) -> int:
    """How many of its workers count alone, of those that began to since then."""
    return node.told("limiter_away", since) - node.told("limiter_back", since)


FAULTS = (
    Scene.postgres_stopped,
    Scene.redis_stopped,
    Scene.redis_failed_over,
    Scene.worker_killed,
    Scene.node_killed,
)
"""One after another."""
KILLS = ("worker_killed", "node_killed")
