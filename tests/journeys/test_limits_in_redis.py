"""Limits in Redis, through the whole proxy: shared by all servers, over a kill, and while Redis is away."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2

from tests.journeys.limited import (
    ASK,
    AT_ONCE,
    Held,
    call_at_once,
    kill_frees_the_places,
    limits_told,
    used,
    went_up,
    with_limits,
)
from tests.journeys.numbered import forget
from tests.journeys.watching import body, until
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge
from tests.upstreams.origin import serving


def sharing(server: RedisServer, folder: Path, upstream: str, **limits: object) -> Weighbridge:
    """A Weighbridge that counts in this Redis."""
    folder.mkdir(exist_ok=True)
    return Weighbridge(folder, upstream, {"storage": {"redis_url": server.url}, "limits": limits})


def errors(stand: Weighbridge) -> float:
    """How often Redis didn't do what was asked of it."""
    lines = httpx2.get(f"{stand.admin_url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("weighbridge_limiter_errors_total"))


async def test_servers_that_share_a_redis_share_the_limit(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """2,000 calls at once on two of them: exactly the limit passes, and none of those refused reaches the upstream."""
    forget(upstream)
    stands = [
        at_end.enter_context(closing(sharing(redis_server, tmp_path / name, upstream))) for name in ("one", "other")
    ]
    keys = [with_limits(stand, "rpm=100", "rpd=1000") for stand in stands]
    for stand in stands:
        stand.start()
    half = AT_ONCE // 2
    calling = (call_at_once(stand, key, ASK, body("hello"), half) for stand, key in zip(stands, keys, strict=True))
    statuses = Counter(status for some in await asyncio.gather(*calling) for status in some)
    assert statuses == {200: 100, 429: AT_ONCE - 100}
    assert went_up(upstream) == sum(len(stand.records()) for stand in stands) == 100
    assert [used(stand) for stand in stands] == [{"rpm": 100, "rpd": 100}] * 2


async def test_a_kill_frees_the_places_and_settles_once(
    redis_server: RedisServer, tmp_path: Path, at_end: ExitStack
) -> None:
    """With 50 calls in flight: the next start ends their leases before its door opens; the day has counted each."""
    slow = Held()
    async with serving(slow, seconds=120) as upstream:
        stand = at_end.enter_context(closing(sharing(redis_server, tmp_path / "one", upstream.url)))
        await kill_frees_the_places(stand, slow)


async def test_while_redis_is_away_each_server_counts_alone_and_tells_it_afterwards(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Frozen, then gone and empty: no call fails for it, the limit holds, and what was counted is in Redis again."""
    stand = at_end.enter_context(closing(sharing(redis_server, tmp_path / "one", upstream)))
    key = with_limits(stand, "rpd=30", "concurrency=100")
    stand.start()
    assert await call_at_once(stand, key, ASK, body("hello"), 5) == [200] * 5
    redis_server.send(signal.SIGSTOP)
    assert await call_at_once(stand, key, ASK, body("hello"), 5) == [200] * 5
    assert errors(stand) > 0
    assert limits_told(stand)["counted_in"] == "memory while redis is away"
    redis_server.send(signal.SIGCONT)
    await asyncio.to_thread(until, lambda: in_redis(redis_server) == [10], "the ten are counted in Redis")
    redis_server.stop()
    assert await call_at_once(stand, key, ASK, body("hello"), 10) == [200] * 10
    redis_server.start()
    await asyncio.to_thread(until, lambda: limits_told(stand)["counted_in"] == "redis", "Redis is back")
    assert used(stand)["rpd"] == 20
    statuses = await call_at_once(stand, key, ASK, body("hello"), 20)
    assert Counter(statuses) == {200: 10, 429: 10}
    assert in_redis(redis_server) == [30]


def in_redis(server: RedisServer) -> list[int]:
    """The counts of alice's days there."""
    with server.client as client:
        return [int(str(client.get(key))) for key in client.keys("wb:{alice}:rpd:*")]


async def test_where_nobody_is_to_be_let_in_without_redis_a_limited_call_gets_503(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """From the start on, if need be; calls without limits go on. It heals by itself."""
    redis_server.stop()
    stand = at_end.enter_context(closing(sharing(redis_server, tmp_path / "one", upstream, on_redis_down="deny")))
    limited, free = with_limits(stand, "rpm=100"), stand.key("unlimited")
    stand.start()
    answer = httpx2.post(stand.base_url + ASK, json=body("hello"), headers={"x-goog-api-key": limited})
    assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (503, "LIMITER_UNAVAILABLE")
    assert httpx2.post(stand.base_url + ASK, json=body("hello"), headers={"x-goog-api-key": free}).status_code == 200
    redis_server.start()

    def let_in() -> bool:
        headers = {"x-goog-api-key": limited}
        return httpx2.post(stand.base_url + ASK, json=body("hello"), headers=headers).status_code == 200

    await asyncio.to_thread(until, let_in, "limited calls are let in")
