"""The run: calls at a steady pace while one thing after another goes wrong; then the books beside the account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import tenants
from tests.chaos.callers import Tally
from tests.chaos.outcome import Process
from tests.fleet.books import Books, books
from tests.fleet.faults import FAULTS, KILLS, Fault, Scene
from tests.fleet.fleet import Fleet, fleet
from tests.fleet.load import Lasting, Origin, Steady
from tests.fleet.node import Node
from tests.fleet.verdict import Verdict
from tests.haproxy_servers import Haproxy
from tests.journeys.watching import in_flight, until
from tests.postgres_servers import PostgresServer

LOG_SHOWN = 3000
"""Bytes of each node's log that are shown where a run can't go on."""


@dataclass
class Load:
    """So many calls at least, by whom, and the upstream that they come to."""

    seed: int
    count: int
    a_second: float
    secrets: dict[str, str] = field(default_factory=dict)
    """What each key's holder sends, by the key's name."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.calls, self.tally = Lasting(self.seed, self.count), Tally()
        self.upstream = Origin(self.calls, self.tally)
        self.bounds = tenants.bounds(self.count)

    async def lasts(self, base_url: str, happens: Callable[[], Awaitable[None]]) -> None:
        """Calls while that happens, and until there were enough."""
        began = time.monotonic()
        self._callers = Steady(self.calls, self.secrets, self.upstream, self.tally, base_url)
        self._callers.a_second = self.a_second
        self._callers.serving.set()
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(self._callers.run())
            await happens()
            self.calls.enough = True
            await calling
        self.seconds = time.monotonic() - began

    def verdict(self, kept: Books, happened: Sequence[Fault] = (), workers: int = 1) -> Verdict:
        """`workers`: how many may each let in what a limit allows, while Redis is away."""
        kills = [fault for fault in happened if fault.name in KILLS]
        for seen in self._callers.seen.values():
            seen.process = int(any(fault.meets(seen.sent, seen.ended) for fault in kills))
        # As if those that a kill met had been sent to a server of their own: so the chaos run has it.
        ends = [Process(0, in_redis=True, exit=0), Process(0, in_redis=True, exit=None)]
        parts = self.calls, self._callers, self.upstream, self.bounds
        made = Verdict(*parts, kept.records, ends, {}, True, {}, self.seconds)
        made.judge(happened, workers, kept)
        return made


@asynccontextmanager
async def telling(nodes: Sequence[Node]) -> AsyncIterator[None]:
    """Shows the ends of their logs where it can't go on."""
    try:
        yield
    except BaseException:
        for node in nodes:
            print(f"{node.name}: {node.log()[-LOG_SHOWN:]}")
        raise


def ended(running: Fleet) -> Books:
    """Waits until nothing is under way, and all is shipped; stops all nodes."""
    for node in running.nodes:
        until(lambda node=node: not in_flight(node.admin_url), "no call is in flight")  # type: ignore[misc]
    kept = books(running)
    for node in running.nodes:
        assert node.stop() == 0, node.log()[-LOG_SHOWN:]
    return kept


@dataclass
class Run:
    """All that can go wrong, one after another. `outage_s`: how long PostgreSQL is away, and Redis."""

    folder: Path
    postgres: PostgresServer
    start_haproxy: Callable[..., Haproxy]
    load: Load
    outage_s: tuple[float, float]

    async def run(self) -> Verdict:
        await self.load.upstream.up()
        try:
            return await self._before_upstream()
        finally:
            await self.load.upstream.down()

    async def _before_upstream(self) -> Verdict:
        load = self.load
        around = fleet(
            self.folder,
            self.postgres,
            load.upstream.base_url,
            lambda database: load.secrets.update(tenants.make(database, load.bounds)),
            self.start_haproxy,
        )
        running = await asyncio.to_thread(around.__enter__)
        try:
            async with telling(running.nodes):
                scene = Scene(running, load.upstream, load.tally, self.outage_s)
                await load.lasts(running.balancer.url, lambda: self._happen(scene))
                return load.verdict(await asyncio.to_thread(ended, running), scene.happened, running.workers)
        finally:
            await asyncio.to_thread(around.__exit__, None, None, None)

    async def _happen(self, scene: Scene) -> None:
        """One fault after another, with calls before and between them."""
        between = self.load.count // (len(FAULTS) + 1) // 3
        for fault in FAULTS:
            await self.load.tally.more("made", between)
            await scene.happens(fault)
            last = scene.happened[-1]
            print(
                f"{self.load.tally['made']:>7,} calls: {last.name}, {time.monotonic() - last.began:.1f} s", flush=True
            )
        await self.load.tally.more("made", between)
