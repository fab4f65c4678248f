"""The limiters that keep the contract, each with its store and what a test must know of it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection

from proxy.config.redis_address import parse
from proxy.limits.interface import Limiter
from proxy.limits.memory import MemoryLimiter
from proxy.limits.redis import RedisLimiter
from proxy.store.redis import Redis, open_redis
from proxy.store.redis_stream import OnAnswer, Script, Value
from tests.redis_servers import PATIENCE_S, SetClock

NOON_S = 1_795_262_400
_numbers = itertools.count()


class Told:
    """What Redis says that the time is, with each answer of a script; others are left out."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.answers = 0

    def listen(self, redis: Redis) -> Redis:
        send = redis.send

        def overheard(tag: str, command: tuple[Value, ...], on_answer: OnAnswer, script: Script | None = None) -> None:
            def answered(answer: Any) -> None:
                if script is not None and isinstance(answer, list):
                    self.now_ms = answer[0]
                    self.answers += 1
                on_answer(answer)

            send(tag, command, answered, script)

        redis.send = overheard  # type: ignore[method-assign]
        return redis


@dataclass
class Store:
    """A limiter of a kind. `make` makes one; those of one store share what they count."""

    name: str
    redis: Callable[[], Redis] | None
    """None: it is the one in memory."""
    clock: SetClock | None = None
    """None: time passes by itself."""

    @asynccontextmanager
    async def limiter(self, worker: str = "worker") -> AsyncIterator[Stand]:
        stand = Stand(self, f"{worker}{next(_numbers)}")
        try:
            await stand.start()
            yield stand
        finally:
            await stand.limiter.close()


@dataclass
class Stand:
    """A limiter under test: its clock is the store's, where that is set by the test."""

    store: Store
    worker: str
    told: Told = field(default_factory=Told)
    redis: Redis | None = None
    limiter: Limiter = field(init=False)
    _rests: asyncio.Queue[asyncio.Future[None]] = field(default_factory=asyncio.Queue)

    def now_ms(self) -> int:
        return self.store.clock.now_s * 1000 if self.store.clock else time.time_ns() // 1_000_000

    async def start(self) -> None:
        if self.store.redis is None:
            self.limiter = MemoryLimiter(self.now_ms, sleep=self._rest)
            return
        self.redis = self.told.listen(self.store.redis())
        self.limiter = limiter = RedisLimiter(self.redis, self.worker, self.now_ms, sleep=self._rest)
        await limiter.start([], lambda lease_id: None)
        assert not limiter.away

    async def arrived(self) -> int:
        """Waits until all that was sent has arrived. The time, in ms: by the last answer, where it passes by itself."""
        if self.redis is not None:
            await self.redis.drain()
        return self.told.now_ms if self.told.answers and not self.store.clock else self.now_ms()

    async def renew(self) -> None:
        """Has the limiter's watch go round once."""
        watching = asyncio.get_running_loop().create_task(self.limiter.watch())
        for last in (False, True):
            rested = await self._rests.get()
            if not last:
                rested.set_result(None)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    async def _rest(self, seconds: float) -> None:
        rested = asyncio.get_running_loop().create_future()
        await self._rests.put(rested)
        await rested


def in_memory(clock: SetClock) -> Store:
    return Store("memory", None, clock)


def at(url: str, clock: SetClock | None = None) -> Store:
    return Store(url, lambda: open_redis(parse(url), timeout_s=PATIENCE_S), clock)


def fake(server: FakeServer | None = None) -> Store:
    """fakeredis, in this process."""
    server = server or FakeServer()

    async def locate() -> Callable[[str], tuple[str, int]]:
        return lambda tag: ("fake", 1)

    def connection(host: str, port: int) -> Any:
        return FakeAsyncRedisConnection(host=host, port=port, server=server, protocol=2, socket_timeout=None)

    return Store("fakeredis", lambda: Redis(locate, connection, PATIENCE_S))
