"""Workers that share what they know of upstreams through a Redis, and a clock for all of them that the test moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from proxy.config.redis_address import parse
from proxy.gemini.exhausted import Exhausted
from proxy.store.redis import open_redis
from proxy.upstreams.health import Health
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.news_stream import FOLLOW_TIMEOUT_S, NewsStream
from proxy.upstreams.shared_health import SharedHealth
from proxy.upstreams.upstream import Upstream
from tests.redis_servers import PATIENCE_S

URL = "http://127.0.0.1:1"
FLASH, PRO = "gemini-3.8-flash", "gemini-3-pro"
ERROR = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded."}
SAID = Exhausted(17.0, error=ERROR)


class Clock:
    """The clock of all processes: it runs as time does, and ahead of it as the test wants."""

    def __init__(self) -> None:
        self._ahead = 1000.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class Process:
    """What a worker has of it."""

    def __init__(self, url: str, clock: Clock, name: str, password: str | None, key: str, claim_s: float) -> None:
        self.health = Health(clock, lambda: 0.5, lambda: 3600.0)
        self.redis = open_redis(parse(url), password)
        stream = NewsStream(self.redis, open_redis(parse(url), password, timeout_s=FOLLOW_TIMEOUT_S))
        self.configure(key)
        self.shared = SharedHealth(stream, self.health, lambda: self._upstreams, name, claim_s=claim_s, sleep=soon)
        self._following: asyncio.Task[None] | None = None

    def configure(self, key: str) -> None:
        """Gives its upstreams a credential, maybe another."""
        self._upstreams = [Upstream(name, URL, "bearer", key, Http11Transport(URL)) for name in ("a", "b")]
        for one in self._upstreams:
            self.health.forget(one.name)

    def out(self, upstream: str = "a", model: str = FLASH) -> bool:
        return self.health.outage(upstream, model) is not None

    def outages(self) -> dict[tuple[str, str], float]:
        """Until when, by upstream and model."""
        return {(name, model): one.until for name in ("a", "b") for model, one in self.health.outages(name)}

    def pending(self) -> bool:
        """Whether something is under way to Redis."""
        return any(stream.waits for stream in self.redis._streams.values())

    async def probe(self, model: str = FLASH) -> bool:
        """As a call does: asks Health, then all others."""
        return self.health.claim("a", model) and await self.shared.claim("a", model)

    def follow(self) -> None:
        self._following = asyncio.get_running_loop().create_task(self.shared.follow())

    async def end(self) -> None:
        assert self._following is not None
        assert not self._following.done()
        self._following.cancel()
        await self.shared.close()


async def soon(seconds: float) -> None:
    await asyncio.sleep(seconds / 10)


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.01)


def known(process: Process) -> str:
    """The last entry that it has read about FLASH at "a"."""
    return next((told.entry for key, told in process.shared._told.items() if key[::2] == ("a", FLASH)), "")


@asynccontextmanager
async def processes(
    url: str,
    clock: Clock,
    *names: str,
    password: str | None = None,
    key: str = "secret",
    claim_s: float = PATIENCE_S,
) -> AsyncIterator[list[Process]]:
    """Workers that share a Redis, once they have looked there."""
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            process = Process(url, clock, name, password, key, claim_s)
            await process.shared.start()
            process.follow()
            stack.push_async_callback(process.end)
            found.append(process)
        yield found
