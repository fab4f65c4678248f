"""Sharing outages whatever becomes of Redis: away, frozen, restarted, emptied, its clock set; of every kind."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest
import structlog

from proxy.upstreams.health import PROBE_S
from proxy.upstreams.news_stream import NEWS
from tests.redis_servers import RedisServer, SetClock, Watched
from tests.upstreams.sharing import FLASH, PRO, SAID, Clock, known, processes, until


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_redis_away_at_the_start(redis_server: RedisServer, clock: Clock) -> None:
    """Each goes by what it finds out; when Redis is there, it is told to all. Said once each time."""
    redis_server.stop()
    with structlog.testing.capture_logs() as lines:
        async with processes(redis_server.url, clock, "one", "two") as (one, two):
            one.health.exhausted("a", FLASH, SAID._replace(seconds=600.0))
            one.health.overloaded("b", FLASH)
            clock.advance(5)
            assert one.health.claim("b", FLASH)
            assert await one.shared.claim("b", FLASH)
            one.health.well("b", FLASH, clock())
            redis_server.start()
            await until(two.out)
            assert not two.out("b")
    assert [line["event"] for line in lines if "news" in line["event"]] == ["upstream_news_away"] * 2 + [
        "upstream_news_back"
    ] * 2


async def test_redis_frozen(redis_server: RedisServer, clock: Clock) -> None:
    """One claim waits for half a second, no other does. What was found out meanwhile is told when it goes on."""
    async with processes(redis_server.url, clock, "one", "two", claim_s=0.5) as (one, two):
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: two.out() and known(one))
        clock.advance(18)
        redis_server.send(signal.SIGSTOP)
        try:
            assert await one.probe()
            assert one.shared.away
            clock.advance(PROBE_S + 1)
            asked = one.redis.ask
            one.redis.ask = None  # type: ignore[method-assign, assignment]  # would raise
            assert await one.probe()
            one.redis.ask = asked  # type: ignore[method-assign]
            one.health.exhausted("a", FLASH, SAID._replace(seconds=600.0))
            one.health.exhausted("a", PRO, SAID._replace(seconds=600.0))
        finally:
            redis_server.send(signal.SIGCONT)
        await until(lambda: two.out("a", PRO))
        await until(lambda: (found := two.health.outage("a", FLASH)) and found.until > clock() + 500)


async def test_redis_restarted_is_empty(redis_server: RedisServer, clock: Clock) -> None:
    """Who had told what it has lost tells it again, for those who come later."""
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        one.health.exhausted("a", FLASH, SAID._replace(seconds=600.0))
        two.health.exhausted("a", PRO, SAID)
        await until(lambda: one.out("a", PRO) and two.out() and known(one))
        lost = known(one)
        redis_server.stop()
        clock.advance(20)  # the other one is over
        redis_server.start()
        await until(lambda: known(one) not in ("", lost) and not two.shared.away)
        async with processes(redis_server.url, clock, "later") as (later,):
            assert later.out()
            assert not later.out("a", PRO)
    with redis_server.client as client:
        assert client.xlen(NEWS) == 1


async def test_redis_emptied(redis_server: RedisServer, clock: Clock) -> None:
    """News go on; what was known stays known."""
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        one.health.exhausted("a", FLASH, SAID)
        await until(two.out)
        with redis_server.client as client:
            client.flushall()
        two.health.exhausted("b", FLASH, SAID)
        await until(lambda: one.out("b"))
        assert one.out()
        assert two.out()


async def test_redis_with_a_key_that_somebody_spoiled(redis_server: RedisServer, clock: Clock) -> None:
    """Then each process goes alone, until it is removed."""
    with redis_server.client as client:
        client.set(NEWS, "spoiled")
        with structlog.testing.capture_logs() as lines:
            async with processes(redis_server.url, clock, "one", "two") as (one, two):
                one.health.exhausted("a", FLASH, SAID._replace(seconds=600.0))
                assert "WRONGTYPE" in lines[0]["error"]
                client.delete(NEWS)
                await until(two.out)


async def test_redis_whose_clock_is_hours_ahead_and_set_back(
    valkey: tuple[RedisServer, SetClock], clock: Clock
) -> None:
    """Durations are told, never times: news count as long as they were told to."""
    server, server_clock = valkey
    async with processes(server.url, clock, "one", "two") as (one, two):
        for upstream, hours in (("a", 0), ("b", -3)):
            server_clock.set(server_clock.now_s + hours * 3600)
            began = clock()
            one.health.exhausted(upstream, FLASH, SAID)
            await until(lambda upstream=upstream: two.out(upstream))
            found = two.health.outage(upstream, FLASH)
            assert found
            assert began + 16.9 < found.until < clock() + 17.1


async def share(url: str, clock: Clock, password: str | None = None) -> None:
    """All that is ever sent is sent there."""
    async with processes(url, clock, "one", "two", password=password) as (one, two):
        assert not one.shared.away
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: two.out() and known(one))
        clock.advance(18)
        assert sum(await asyncio.gather(one.probe(), two.probe())) == 1


async def test_over_a_cluster(cluster: list[RedisServer], clock: Clock) -> None:
    await share(f"redis+cluster://127.0.0.1:{cluster[1].port}", clock)


async def test_through_sentinels(sentinel: Watched, clock: Clock) -> None:
    """Over a failover, too."""
    async with processes(sentinel.url, clock, "one", "two") as (one, two):
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: two.out() and known(one))
        sentinel.master.stop()
        await until(lambda: one.shared.away and two.shared.away)
        await until(lambda: not one.shared.away and not two.shared.away)
        two.health.exhausted("b", FLASH, SAID)
        await until(lambda: one.out("b"))


async def test_with_the_rights_that_the_documentation_lists(redis_server: RedisServer, clock: Clock) -> None:
    rights = re.findall(r"[~+]\S+", Path("docs/redis.md").read_text().partition("ACL SETUSER")[2].partition("```")[0])
    with redis_server.client as client:
        client.execute_command("ACL", "SETUSER", "proxy", "on", ">geheim", *rights)
    await share(f"redis://proxy@127.0.0.1:{redis_server.port}", clock, "geheim")
