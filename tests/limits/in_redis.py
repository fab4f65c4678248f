"""Limiters in Redis for tests, over connections that count what is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Connection

from proxy.limits.interface import Counter, Hold
from proxy.limits.redis import RedisLimiter
from proxy.limits.scripts import Command
from proxy.store.redis import Redis
from proxy.store.redis_stream import Script, Value
from tests.limits.demand import counter
from tests.redis_servers import PATIENCE_S, RedisServer

NOW_MS = 1_795_262_400_000
NOW_S = NOW_MS // 1000


class Counting(Connection):
    """A connection that counts its writes, and the commands in them."""

    writes = 0
    commands = 0

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        type(self).writes += 1
        type(self).commands += 1 if isinstance(command, bytes | str) else len(command)
        await super().send_packed_command(command, check_health)


def connect(server: RedisServer) -> Redis:
    async def locate() -> Callable[[str], tuple[str, int]]:
        return lambda tag: ("127.0.0.1", server.port)

    return Redis(locate, lambda host, port: Counting(host=host, port=port, protocol=2, driver_info=None), PATIENCE_S)


@asynccontextmanager
async def limiting(
    server: RedisServer,
    worker: str = "worker",
    *,
    projects: tuple[str, ...] = (),
    settled: Mapping[str, Mapping[str, int]] | None = None,
    history: Callable[[Counter, str, int], Mapping[int, int]] = lambda counter, day, now_ms: {},
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[RedisLimiter]:
    limiter = RedisLimiter(connect(server), worker, lambda: NOW_MS, history, sleep=sleep)
    await limiter.start(projects, (settled or {}).get)
    assert not limiter.away
    try:
        yield limiter
    finally:
        await limiter.close()


HOLDS = [Hold(counter("rpm", 100), 1), Hold(counter("tpm", 1000), 40), Hold(counter("rpd", 100), 1)]
ALL = [*HOLDS, Hold(counter("concurrency", 100), 1)]
COUNTERS = [hold.counter for hold in ALL]


def sent(command: Command) -> tuple[str, tuple[Value, ...], Script]:
    return command.project, command.arguments, command.script


async def arrived(limiter: RedisLimiter) -> None:
    await limiter._redis.drain()
