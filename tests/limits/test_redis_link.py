"""Redis there, or away: what is told of it, and what is kept for it. tests/contracts/test_redis_away.py has it away."""

from __future__ import annotations

import asyncio
import signal

import structlog

from proxy.config.redis_address import parse
from proxy.limits.redis_link import Link
from proxy.limits.scripts import Command
from proxy.store.redis import open_redis
from proxy.store.redis_stream import Script
from tests.redis_servers import RedisServer

PUSH = Script("return redis.call('RPUSH', KEYS[1], ARGV[1])")


async def test_what_is_delivered_while_it_is_away_arrives_in_its_order(redis_server: RedisServer) -> None:
    """Also what was on its way when it went; an outage is told once and counted once."""
    errors: list[int] = []
    link = Link(open_redis(parse(redis_server.url)), _nothing, list, lambda: errors.append(1), lambda: None, _soon)
    await link.start()
    redis_server.send(signal.SIGSTOP)
    for number in range(3):
        link.deliver(Command("a", PUSH, (1, "wb:{a}", number)))
    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(10):
            while not link.away:
                await asyncio.sleep(0.02)
        link.deliver(Command("a", PUSH, (1, "wb:{a}", 3)))
        redis_server.stop()
        redis_server.start()
        async with asyncio.timeout(10):
            while link.away:
                await asyncio.sleep(0.02)
    assert [line["event"] for line in lines] == ["limiter_away", "limiter_back"]
    assert errors == [1]
    await link.close()
    with redis_server.client as client:
        assert client.lrange("wb:{a}", 0, -1) == ["0", "1", "2", "3"]


async def test_a_key_that_somebody_spoiled_keeps_nothing_from_coming_back(redis_server: RedisServer) -> None:
    """What Redis will never do is told and given up; what came after it arrives."""
    link = Link(open_redis(parse(redis_server.url)), _nothing, list, lambda: None, lambda: None, _soon)
    await link.start()
    with redis_server.client as client:
        client.set("wb:{a}", "spoiled")
        with structlog.testing.capture_logs() as lines:
            link.deliver(Command("a", PUSH, (1, "wb:{a}", 0)))
            link.deliver(Command("b", PUSH, (1, "wb:{b}", 1)))
            async with asyncio.timeout(10):
                while not client.exists("wb:{b}") or link.away:
                    await asyncio.sleep(0.02)
    assert "limiter_key_spoiled" in [line["event"] for line in lines]
    await link.close()


async def _nothing() -> None:
    pass


async def _soon(seconds: float) -> None:
    await asyncio.sleep(seconds / 10)
