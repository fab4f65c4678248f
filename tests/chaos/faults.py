"""What goes wrong while calls are made: the disk, Redis, the upstream, the clock; and how the process ends."""

from __future__ import annotations

import asyncio
import errno
import itertools
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.chaos.callers import Tally
from tests.chaos.clock import Clock
from tests.chaos.upstream import Upstream
from tests.disk import Disk
from tests.journeys.watching import DEADLINE_S
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge

BROKEN = 74
"""EX_IOERR of sysexits(3): how a server ends whose ledger can't be written."""
AHEAD_S = (-3600, 0, 1800, -1800, 0)
"""Where the clock is set to, one after the other: back by an hour, twice, and on again in steps."""


@dataclass
class Scene:
    """All that may fail."""

    stand: Weighbridge
    disk: Disk
    redis: RedisServer
    clock: Clock
    upstream: Upstream
    tally: Tally
    log_from: int = 0
    """Where the present server's part of the log begins."""
    _ahead: Iterator[int] = field(default_factory=lambda: itertools.cycle(AHEAD_S))

    async def disk_full(self) -> None:
        """Nothing more can be written to the ledger's log, until a good many calls were refused for it."""
        self.disk.fault("write", "0.db-wal", errno.ENOSPC, number=0)
        try:
            # Callers that are all in the midst of a call wait for the disk, ten seconds at most, and none is refused.
            await asyncio.wait({_task(self.tally.more("refused: LEDGER_UNAVAILABLE", 15))}, timeout=2)
        finally:
            self.disk.faultless()

    async def upstream_away(self) -> None:
        await self.upstream.down()
        try:
            await self.tally.more("made", 40)
        finally:
            await self.upstream.up()

    async def redis_frozen(self) -> None:
        self.redis.send(signal.SIGSTOP)
        try:
            await self._limits_alone()
            await self.tally.more("made", 30)
        finally:
            self.redis.send(signal.SIGCONT)

    async def redis_away(self) -> None:
        """Its process ends; another begins, which is empty."""
        self.redis.stop()
        try:
            await self._limits_alone()
            await self.tally.more("made", 60)
        finally:
            await asyncio.to_thread(self.redis.start)

    async def redis_emptied(self) -> None:
        with self.redis.client as client:
            await asyncio.to_thread(client.flushall)

    async def clock_set(self) -> None:
        self.clock.set(next(self._ahead))

    async def killed(self) -> set[int]:
        """Returns how the process may have ended."""
        self._send(signal.SIGKILL)
        return {-signal.SIGKILL}

    async def terminated(self) -> set[int]:
        self._send(signal.SIGTERM)
        return {0}

    async def killed_with_redis(self) -> set[int]:
        self.redis.stop()
        self._send(signal.SIGKILL)
        await asyncio.to_thread(self.redis.start)
        return {-signal.SIGKILL}

    async def disk_broken(self) -> set[int]:
        """An fsync fails, and the server ends by itself."""
        self.disk.fault("sync", "0.db-wal", errno.EIO)
        return {BROKEN}

    async def _limits_alone(self) -> None:
        """Waits until this server has noticed that Redis is away, by its log; it may be away already."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with (self.stand.folder / "log").open("rb") as log:
                    log.seek(self.log_from)
                    told = log.read()
                if told.rfind(b'"limiter_away"') > told.rfind(b'"limiter_back"'):
                    return
                await asyncio.sleep(0.05)

    def _send(self, what: signal.Signals) -> None:
        assert self.stand.process is not None
        self.stand.process.send_signal(what)


def _task(waiting: Awaitable[None]) -> asyncio.Future[None]:
    return asyncio.ensure_future(waiting)  # noqa: TID251


Fault = Callable[[Scene], Awaitable[None]]
Ending = Callable[[Scene], Awaitable[set[int]]]
Weather = tuple[tuple[Fault, ...], Ending]

IN_MEMORY: tuple[Weather, ...] = (
    ((Scene.clock_set, Scene.disk_full), Scene.killed),
    ((Scene.upstream_away,), Scene.disk_broken),
    ((Scene.disk_full, Scene.upstream_away), Scene.terminated),
    ((Scene.upstream_away,), Scene.killed),
)
"""What happens while one process serves, and how it ends: one after the other, where limits are counted in memory."""
IN_REDIS: tuple[Weather, ...] = (
    ((Scene.redis_frozen, Scene.clock_set), Scene.killed),
    ((Scene.redis_away, Scene.disk_full), Scene.terminated),
    ((Scene.redis_emptied, Scene.upstream_away), Scene.killed_with_redis),
    ((Scene.redis_frozen, Scene.redis_emptied), Scene.disk_broken),
)
"""And where they are counted in Redis."""
