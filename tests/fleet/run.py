"""The run: a fleet under a steady load while one thing after another goes wrong; then the books beside the account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import tenants
from tests.chaos.callers import Tally
from tests.chaos.outcome import Process
from tests.fleet.books import Books, books
from tests.fleet.faults import FAULTS, KILLS, Scene
from tests.fleet.fleet import Fleet, fleet
from tests.fleet.load import Lasting, Origin, Steady
from tests.fleet.verdict import Verdict
from tests.journeys.watching import in_flight, until
from tests.postgres_servers import PostgresServer

LOG_SHOWN = 3000
"""Bytes of each node's log that are shown where a run can't go on."""


@dataclass
class Run:
    """Makes so many calls at least, and reckons. `outage_s`: how long PostgreSQL is away, and Redis."""

    folder: Path
    postgres: PostgresServer
    seed: int
    count: int
    a_second: float
    outage_s: tuple[float, float]
    say: Callable[[str], None] = print

    async def run(self) -> Verdict:
        self._calls, self._tally = Lasting(self.seed, self.count), Tally()
        self._upstream = Origin(self._calls, self._tally)
        self._bounds, self._secrets = tenants.bounds(self.count), dict[str, str]()
        await self._upstream.up()
        try:
            return await self._before(self._upstream)
        finally:
            await self._upstream.down()

    async def _before(self, upstream: Origin) -> Verdict:
        around = fleet(
            self.folder,
            self.postgres,
            upstream.base_url,
            lambda database: self._secrets.update(tenants.make(database, self._bounds)),
        )
        running = await asyncio.to_thread(around.__enter__)
        try:
            return await self._under_load(running)
        except BaseException:
            for node in running.nodes:
                self.say(f"{node.name}: {node.log()[-LOG_SHOWN:]}")
            raise
        finally:
            await asyncio.to_thread(around.__exit__, None, None, None)

    async def _under_load(self, running: Fleet) -> Verdict:
        began = time.monotonic()
        callers = Steady(self._calls, self._secrets, self._upstream, self._tally, running.balancer.base_url)
        callers.a_second = self.a_second
        callers.serving.set()
        scene = Scene(running, self._upstream, self._tally, self.outage_s)
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(callers.run())
            await self._happen(scene)
            self._calls.enough = True
            await calling
        seconds = time.monotonic() - began
        kept = await asyncio.to_thread(self._end, running)
        overlapped = [fault for fault in scene.happened if fault.name in KILLS]
        for seen in callers.seen.values():
            seen.process = int(any(fault.meets(seen.sent, seen.ended) for fault in overlapped))
        processes = [Process(0, in_redis=True, exit=0), Process(0, in_redis=True, exit=None)]
        verdict = Verdict(
            self._calls, callers, self._upstream, self._bounds, kept.records, processes, {}, True, {}, seconds
        )
        verdict.judge(scene.happened, running.workers, kept)
        return verdict

    async def _happen(self, scene: Scene) -> None:
        """One fault after another, with calls before and between them."""
        between = self.count // (len(FAULTS) + 1) // 3
        for fault in FAULTS:
            await self._tally.more("made", between)
            await scene.happens(fault)
            last = scene.happened[-1]
            self.say(f"{self._tally['made']:>7,} calls: {last.name}, {time.monotonic() - last.began:.1f} s")
        await self._tally.more("made", between)

    def _end(self, running: Fleet) -> Books:
        """Waits until nothing is under way, and all is shipped; stops all nodes."""
        for node in running.nodes:
            until(lambda node=node: not in_flight(node.admin_url), "no call is in flight")  # type: ignore[misc]
        kept = books(running)
        for node in running.nodes:
            assert node.stop() == 0, node.log()[-LOG_SHOWN:]
        return kept
