"""The stream of news, on a real Redis: read from its beginning, waited for, bounded; and a claim is one process's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import exceptions
from redis.exceptions import RedisError

from proxy.config.redis_address import parse
from proxy.store.redis import open_redis
from proxy.upstreams import news
from proxy.upstreams.health import News, Why
from proxy.upstreams.news_stream import AT_ONCE, FOLLOW_TIMEOUT_S, KEPT, NEWS, PROBE, NewsStream
from tests.redis_servers import PATIENCE_S, RedisServer

OUT = News("a", "gemini-3.8-flash", Why.OVERLOADED, 2.0)


def fields(number: int) -> list[str | bytes | int]:
    return news.fields(OUT, "1f2e3d4c", "worker", number)


def fails(error: RedisError) -> None:
    raise AssertionError(error)


@pytest.fixture
async def stream(redis_server: RedisServer) -> AsyncIterator[NewsStream]:
    address = parse(redis_server.url)
    opened = NewsStream(open_redis(address), open_redis(address, timeout_s=FOLLOW_TIMEOUT_S + PATIENCE_S))
    await opened.connect()
    yield opened
    await opened.close()


async def test_all_is_read_and_in_its_order(stream: NewsStream, redis_server: RedisServer) -> None:
    """However much it is; then what comes; and all of it again after another connection, for it may be another."""
    for number in range(2 * AT_ONCE + 1):
        stream.send(fields(number), fails)
    await stream.drain()
    assert [entry.number for entry in await stream.read()] == [*range(2 * AT_ONCE + 1)]
    assert await stream.read() == []
    stream.send(fields(7), fails)
    assert [entry.number for entry in await stream.wait()] == [7]
    with redis_server.client as client:
        client.delete(NEWS)
        client.xadd(NEWS, {"something": "else"}, id="0-1")
    await stream.connect()
    assert (await stream.read(), stream.last) == ([], "0-1")


async def test_who_waits_gets_what_comes(stream: NewsStream) -> None:
    """While others' commands go on, on a connection of their own; after a while there is nothing."""
    waiting = asyncio.get_running_loop().create_task(stream.wait())
    stream.send(fields(1), fails)
    assert [entry.number for entry in await waiting] == [1]
    assert await stream.wait() == []


async def test_it_is_bounded(stream: NewsStream, redis_server: RedisServer) -> None:
    for number in range(2 * KEPT):
        stream.send(fields(number), fails)
        if number % 100 == 0:
            await stream.drain()
    await stream.drain()
    with redis_server.client as client:
        assert KEPT <= client.xlen(NEWS) <= KEPT + 100
        assert client.ttl(NEWS) > 24 * 3600


async def test_a_claim_is_one_process_s(stream: NewsStream, redis_server: RedisServer) -> None:
    """Until it lapses."""
    claims = [await stream.claim("a", worker, 60_000) for worker in ("one", "two", "one")]
    assert claims == [True, False, False]
    with redis_server.client as client:
        assert 0 < client.pttl(f"{PROBE}:a") <= 60_000
        client.delete(f"{PROBE}:a")
    assert await stream.claim("a", "two", 60_000)
    assert await stream.claim("\ud800", "two", 60_000)


async def test_one_that_takes_no_writes_is_not_connected(stream: NewsStream, redis_server: RedisServer) -> None:
    """And an entry that can't be added is told."""
    errors: list[RedisError] = []
    with redis_server.client as client:
        client.config_set("maxmemory", 1)
    stream.send(fields(1), errors.append)
    await stream.drain()
    assert isinstance(errors[0], exceptions.OutOfMemoryError)
    with pytest.raises(exceptions.OutOfMemoryError):
        await stream.connect()
