"""The run: servers one after another on the same files, each in a weather of its own, under callers who never stop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from proxy.store.database import open_database
from tests.chaos import tenants
from tests.chaos.callers import Callers, Tally
from tests.chaos.clock import Clock
from tests.chaos.faults import BROKEN, IN_MEMORY, IN_REDIS, Fault, Scene, Weather
from tests.chaos.outcome import TOLD, Outcome, Process
from tests.chaos.plan import Calls
from tests.chaos.upstream import Upstream
from tests.disk import Disk
from tests.journeys.streaming import Footprint
from tests.journeys.watching import in_flight, open_leases, until
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge

CALLS_A_SERVER = 500
"""Between two ends; in a short run fewer, so that all weathers are had."""
LOG_SHOWN = 4000
"""Bytes of the servers' log that are shown where a run can't go on."""
THREADS = 40
"""Those that asyncio starts for what is slow, and keeps."""


class Run:
    """Makes so many calls, and reckons. Each half of them has its limits counted elsewhere."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        redis: RedisServer,
        seed: int,
        count: int,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`disk` holds the server's files, `redis` is running; `say` is told how it goes."""
        self._calls, self._tally = Calls(seed, count), Tally()
        self._upstream = Upstream(self._calls, lambda: self._tally.happened("arrived"))
        clock, self._redis, self._say = Clock(folder), redis, say
        environment = disk.environment | clock.environment | {"DISK_LOG": "/dev/null"}
        environment["LD_PRELOAD"] = ":".join(one.environment["LD_PRELOAD"] for one in (disk, clock))
        self._stand = Weighbridge(disk.root, self._upstream.base_url, environment=environment)
        self._bounds = tenants.bounds(count)
        secrets = tenants.make(open_database(self._stand.storage), self._bounds)
        self._callers = Callers(self._calls, secrets, self._upstream, self._tally)
        self._scene = Scene(self._stand, disk, redis, clock, self._upstream, self._tally)
        self._processes: list[Process] = []
        self._began = time.monotonic()

    async def run(self) -> Outcome:
        await self._upstream.up()
        calling = asyncio.get_running_loop().create_task(self._callers.run())
        with closing(self._stand):
            try:
                await self._serve(calling)
                return await asyncio.to_thread(self._outcome, await self._end())
            except BaseException:
                self._say(self._stand.log()[-LOG_SHOWN:])
                raise
            finally:
                calling.cancel()
                if not self._upstream.away:
                    await self._upstream.down()

    async def _serve(self, calling: asyncio.Task[None]) -> None:
        """One process after another, until all calls are made; the last in fair weather."""
        rounds = max(len(IN_MEMORY) + len(IN_REDIS), self._calls.count // CALLS_A_SERVER)
        for number in range(rounds):
            weathers = IN_REDIS if number >= rounds // 2 else IN_MEMORY
            await self._start(in_redis=weathers is IN_REDIS)
            goal = self._calls.count * (number + 1) // (rounds + 1)
            await self._live(weathers[number % len(weathers)], goal, calling)
            self._tell(number + 1, rounds)
        await self._start(in_redis=True)
        before = Footprint(self._stand)
        self._files, self._threads = before.files, before.threads
        await calling

    async def _start(self, *, in_redis: bool) -> None:
        storage = {"storage": {"redis_url": self._redis.url}} if in_redis else {}
        self._stand.settings = {"limits": {"hold": "worst"}, **storage}
        self._processes.append(Process(self._scene.clock.ahead_s, in_redis))
        log = self._stand.folder / "log"
        self._scene.log_from = log.stat().st_size if log.exists() else 0
        await asyncio.to_thread(self._stand.start)
        self._callers.base_url, self._callers.process = self._stand.base_url, len(self._processes) - 1
        self._callers.serving.set()

    async def _live(self, weather: Weather, goal: int, calling: asyncio.Task[None]) -> None:
        """One server's life, until it is ended in the midst of calls; by then there were `goal` of them in all."""
        assert self._stand.process is not None
        faults, ending = weather
        loop, process = asyncio.get_running_loop(), self._processes[-1]
        happening = loop.create_task(self._happen(faults, goal, process))
        dying = loop.create_task(asyncio.to_thread(self._stand.process.wait))
        await asyncio.wait({happening, dying, calling}, return_when=asyncio.FIRST_COMPLETED)
        assert not calling.done(), "all calls are used up: make more"
        if happening.done():
            await happening
            process.events.append(ending.__name__)
            may_exit = await ending(self._scene)
            await dying
        else:  # a disk that is full for ten seconds ends a server, and a machine may stall for so long
            happening.cancel()
            await asyncio.wait({happening})
            may_exit = {BROKEN} if process.events[-1:] == ["disk_full"] else set()
        self._callers.serving.clear()
        process.exit = await asyncio.to_thread(self._stand.wait)
        self._scene.disk.faultless()
        self._upstream.forsaken()
        assert process.exit in may_exit, f"it ended by {process.exit}: {self._stand.log()[-3000:]}"

    async def _happen(self, faults: Sequence[Fault], goal: int, process: Process) -> None:
        """One fault after another, with calls in between and after them."""
        between = max(1, (goal - self._tally["made"]) // (len(faults) + 1))
        for fault in faults:
            await self._tally.more("made", between)
            process.events.append(fault.__name__)
            await fault(self._scene)
        await self._tally.until(lambda: self._tally["made"] >= goal)
        await self._tally.more("arrived", 1)

    async def _end(self) -> dict[str, object]:
        """Ends the last server once it has nothing to do. Returns what is left that should be gone."""
        await asyncio.to_thread(until, lambda: not in_flight(self._stand.admin_url), "no call is in flight")
        await asyncio.to_thread(until, lambda: not open_leases(self._stand.data_dir), "every lease is settled")
        # Connections to the upstream are kept; those of callers go soon.
        kept = self._files + self._upstream.connections()
        await asyncio.to_thread(until, lambda: Footprint(self._stand).files <= kept, "no file or socket is left open")
        left: dict[str, object] = {"threads": max(0, Footprint(self._stand).threads - self._threads - THREADS)}
        self._processes[-1].exit = await asyncio.to_thread(self._stand.stop)
        assert self._processes[-1].exit == 0, self._stand.log()[-3000:]
        with self._redis.client as client:
            held = [key for key in client.keys("wb:*:leases:*") if client.hlen(key)]
        return left | {
            "leases in the ledger": open_leases(self._stand.data_dir),
            "leases in redis": held,
            "calls open upstream": [name for name, count in self._upstream.open.items() if count],
        }

    def _outcome(self, left: dict[str, object]) -> Outcome:
        verified = json.loads(self._stand.run("ledger", "verify", "--json"))["files"]
        return Outcome(
            self._calls,
            self._callers,
            self._upstream,
            self._bounds,
            self._stand.records(),
            self._processes,
            left,
            all(file["ok"] for file in verified),
            {event: self._stand.log().count(f'"{event}"') for event in TOLD},
            time.monotonic() - self._began,
        )

    def _tell(self, number: int, rounds: int) -> None:
        process, made = self._processes[-1], self._tally["made"]
        rate = made / (time.monotonic() - self._began)
        where = "Redis " if process.in_redis else "memory"
        events = ", ".join(process.events)
        self._say(f"{number:>4} of {rounds} servers, {made:>7,} calls, {rate:>3.0f}/s, limits in {where}: {events}")
