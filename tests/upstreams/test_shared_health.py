"""Outages shared through a real Redis: what one process finds out all know, one probes; and Redis away, or emptied."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from proxy.config.redis_address import parse
from proxy.gemini.exhausted import Exhausted
from proxy.store.redis import open_redis
from proxy.upstreams.health import PROBE_S, Health, Why
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.shared_health import FOLLOW_TIMEOUT_S, NEWS, PROBE, SharedHealth
from proxy.upstreams.upstream import Upstream
from tests.redis_servers import PATIENCE_S, RedisServer, SetClock, running_cluster, running_sentinel

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
        redis = open_redis(parse(url), password)
        following = open_redis(parse(url), password, timeout_s=FOLLOW_TIMEOUT_S)
        upstreams = [Upstream(name, URL, "bearer", key, Http11Transport(URL)) for name in ("a", "b")]
        self.shared = SharedHealth(redis, following, self.health, lambda: upstreams, name, claim_s=claim_s, sleep=soon)
        self._following: asyncio.Task[None] | None = None

    def out(self, upstream: str = "a", model: str = FLASH) -> bool:
        return self.health.outage(upstream, model) is not None

    def outages(self) -> dict[tuple[str, str], float]:
        """Until when, by upstream and model."""
        return {(name, model): one.until for name in ("a", "b") for model, one in self.health.outages(name)}

    def pending(self) -> bool:
        """Whether something is under way to Redis."""
        return any(stream.waits for stream in self.shared._redis._streams.values())

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_what_one_process_finds_out_all_know(redis_server: RedisServer, clock: Clock) -> None:
    """For how long, why, for which model, and what Google said. It is told once, by who found out."""
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        one.health.exhausted("a", FLASH, SAID)
        one.health.overloaded("b", PRO)
        one.health.credential_refused("b")
        await until(lambda: two.out() and two.out("b", PRO) and not two.health.available("b"))
        known, mine = two.health.outage("a", FLASH), one.health.outage("a", FLASH)
        assert known
        assert mine
        assert (known.why, known.exhausted and known.exhausted.error) == (Why.RATE_LIMITED, ERROR)
        assert abs(mine.until - known.until) < PATIENCE_S / 2
        assert not two.out("a", PRO)
        await until(lambda: not one.pending())
    with redis_server.client as client:
        entries = client.xrange(NEWS)
        assert [told["worker"] for _, told in entries] == ["one"] * 3
        assert "secret" not in str(entries)
        assert 0 < client.ttl(NEWS) <= 26 * 3600


async def test_that_an_upstream_is_back_is_told_too(redis_server: RedisServer, clock: Clock) -> None:
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        one.health.exhausted("a", FLASH, SAID)
        await until(two.out)
        clock.advance(18)
        assert await one.probe()
        one.health.well("a", FLASH, clock())
        await until(lambda: not two.out())


async def test_what_cannot_be_reached_from_here_is_told_to_nobody(redis_server: RedisServer, clock: Clock) -> None:
    """It may be this machine's network. Nor does anybody else's news end it, or claim its probe."""
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        two.health.credential_refused("a")
        await until(lambda: not one.health.available("a"))
        clock.advance(61)
        for process in (one, two):
            for _ in range(5):
                process.health.failed("a")
        assert one.health.claim("a", FLASH) is False
        clock.advance(6)
        assert [await one.probe(), await two.probe()] == [True, True]
        with redis_server.client as client:
            ((_, told),) = client.xrange(NEWS)
            client.xadd(NEWS, told | {"worker": "three", "state": "in"})
            client.xadd(NEWS, told | {"worker": "three", "model": FLASH})
        await until(lambda: len(one.outages()) == 2)
        assert not one.health.available("a")


async def test_of_all_processes_one_probes(redis_server: RedisServer, clock: Clock) -> None:
    """Of each outage anew; and another one where nothing came of it."""
    async with processes(redis_server.url, clock, "one", "two", "three") as all_of_them:
        known = {""}
        for prober in all_of_them:
            prober.health.exhausted("a", FLASH, SAID)
            before = known
            await until(lambda before=before: {*map(_known, all_of_them)}.isdisjoint(before))
            known = {*map(_known, all_of_them)}
            assert len(known) == 1
            await until(lambda: all(one.outages()["a", FLASH] > clock() for one in all_of_them))
            clock.advance(18)
            asked = [one.probe() for one in all_of_them for _ in range(5)]
            assert sum(await asyncio.gather(*asked)) == 1
        first = next(iter(all_of_them))
        with redis_server.client as client:
            for key in client.keys(f"{PROBE}:*"):
                assert 0 < client.pttl(key) < PROBE_S * 1000
                client.delete(key)  # as it lapses
        clock.advance(PROBE_S)
        assert sum(await asyncio.gather(*(one.probe() for one in all_of_them))) == 1
        first.health.well("a", FLASH, clock())
        await until(lambda: not any(one.out() for one in all_of_them))


def _known(process: Process) -> str:
    known = process.shared._known.get(("a", FLASH))
    return known.entry if known else ""


async def test_an_outage_renewed_while_a_call_was_on_its_way_is_not_probed(
    redis_server: RedisServer, clock: Clock
) -> None:
    """And one that has ended since needs no probe."""
    async with processes(redis_server.url, clock, "one") as (one,):
        one.health.exhausted("a", FLASH, SAID)
        clock.advance(18)
        assert one.health.claim("a", FLASH)
        one.health.exhausted("a", FLASH, SAID)
        assert await one.shared.claim("a", FLASH) is False
        clock.advance(18)
        one.health.well("a", FLASH, clock())
        assert await one.shared.claim("a", FLASH) is True


async def test_another_upstream_of_the_same_name_is_another(redis_server: RedisServer, clock: Clock) -> None:
    """Told by its credential; who has the same hears of it."""
    async with (
        processes(redis_server.url, clock, "one", "two") as (one, two),
        processes(redis_server.url, clock, "other", key="another") as (other,),
    ):
        other.health.credential_refused("a")
        one.health.exhausted("a", FLASH, SAID)
        await until(two.out)
        assert two.health.available("a")
        assert [outage.why for _, outage in other.health.outages("a")] == [Why.CREDENTIAL_REFUSED]


async def test_who_starts_later_catches_up(redis_server: RedisServer, clock: Clock) -> None:
    """What is left of it, by Redis's clock; what was over long ago is passed by, and so is what isn't understood."""
    async with processes(redis_server.url, clock, "one") as (one,):
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: _known(one))
    with redis_server.client as client:
        ((_, told),) = client.xrange(NEWS)
        client.delete(NEWS)
        now_ms = client.time()[0] * 1000
        client.xadd(NEWS, told | {"model": "long ago"}, id=f"{now_ms - 600_000}-0")
        client.xadd(NEWS, told | {"model": "just now"}, id=f"{now_ms - 30_000}-0")
        client.xadd(NEWS, told | {"model": "back", "ms": "900000"}, id=f"{now_ms - 20_000}-0")
        client.xadd(NEWS, {"something": "else"}, id=f"{now_ms - 20_000}-1")
        client.xadd(NEWS, told | {"model": "back", "state": "in"}, id=f"{now_ms - 20_000}-2")
        for number in range(300):
            client.xadd(NEWS, told | {"ms": "900000"}, id=f"{now_ms - 10_000}-{number}")
    began = clock()
    async with processes(redis_server.url, clock, "later") as (later,):
        found = dict(later.health.outages("a"))
        assert found.keys() == {"just now", FLASH}
        assert found["just now"].until < began
        assert began + 885 < found[FLASH].until < clock() + 890


async def test_what_this_process_told_after_others_counts(redis_server: RedisServer, clock: Clock) -> None:
    """The stream's order decides, not the order of hearing: others' older news change nothing."""
    async with processes(redis_server.url, clock, "two") as (two,):
        one = Process(redis_server.url, clock, "one", None, "secret", PATIENCE_S)
        await one.shared.start()  # it follows later
        two.health.exhausted("a", FLASH, SAID)
        clock.advance(18)
        two.health.well("a", FLASH, clock())
        await until(lambda: ("a", FLASH) not in two.shared._known)
        one.health.exhausted("a", FLASH, SAID)
        await until(two.out)
        one.follow()
        await until(lambda: _known(one))
        assert one.out()
        clock.advance(18)
        two.health.well("a", FLASH, clock())
        await until(lambda: not one.out())
        await one.end()


async def test_a_thousand_answers_are_few_news(redis_server: RedisServer, clock: Clock) -> None:
    """Each that was under way makes an outage a bit longer."""
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        for _ in range(1000):
            clock.advance(0.001)
            one.health.exhausted("a", FLASH, SAID)
        one.health.overloaded("b", FLASH)
        await until(lambda: two.out("b"))
        began = clock()
    with redis_server.client as client:
        entries = client.xlen(NEWS)
    assert entries <= 3 + 4 * (clock() - began + 30)
    assert entries < 100


async def test_processes_agree_whatever_each_finds_out(redis_server: RedisServer, clock: Clock) -> None:
    """Random histories on three of them: when all is read, each holds the same upstreams for out, and as long."""
    chance = random.Random(6)
    out = 0
    async with processes(redis_server.url, clock, "one", "two", "three") as all_of_them:
        for _ in range(100):
            for _ in range(chance.randrange(1, 12)):
                one, name, model = chance.choice(all_of_them), chance.choice("ab"), chance.choice((FLASH, PRO))
                match chance.randrange(5):
                    case 0:
                        one.health.exhausted(name, model, SAID._replace(seconds=chance.choice((60.0, 600.0))))
                    case 1:
                        one.health.credential_refused(name)
                    case 2 | 3:
                        one.health.well(name, model, clock())
                    case _:
                        await asyncio.sleep(0.001)
            await until(lambda: not any(one.pending() for one in all_of_them))
            with redis_server.client as client:
                ((last, _),) = client.xrevrange(NEWS, count=1) or [("0-0", None)]
            await until(lambda last=last: all(one.shared._last == last for one in all_of_them))
            await until(lambda: agree(all_of_them))  # when they have asked for the time
            out += len(all_of_them[0].outages())
            clock.advance(chance.choice((1.0, 61.0, 601.0)))
    assert out > 100


def agree(all_of_them: list[Process]) -> bool:
    """But for what is too little to be told, and for what the news took."""
    first, *others = [one.outages() for one in all_of_them]
    return all(
        other.keys() == first.keys() and all(abs(other[key] - first[key]) < 0.5 for key in first) for other in others
    )


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
        await until(lambda: two.out() and _known(one))
        clock.advance(18)
        redis_server.send(signal.SIGSTOP)
        try:
            assert await one.probe()
            assert one.shared.away
            clock.advance(PROBE_S + 1)
            asked = one.shared._redis.ask
            one.shared._redis.ask = None  # type: ignore[method-assign, assignment]  # would raise
            assert await one.probe()
            one.shared._redis.ask = asked  # type: ignore[method-assign]
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
        await until(lambda: one.out("a", PRO) and two.out() and _known(one))
        lost = _known(one)
        redis_server.stop()
        clock.advance(20)  # the other one is over
        redis_server.start()
        await until(lambda: _known(one) not in ("", lost) and not two.shared.away)
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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with running_cluster(tmp_path) as nodes:
        yield nodes


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Any]:
    with running_sentinel(tmp_path) as watched:
        yield watched


async def share(url: str, clock: Clock, password: str | None = None) -> None:
    """All that is ever sent is sent there."""
    async with processes(url, clock, "one", "two", password=password) as (one, two):
        assert not one.shared.away
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: two.out() and _known(one))
        clock.advance(18)
        assert sum(await asyncio.gather(one.probe(), two.probe())) == 1


async def test_over_a_cluster(cluster: list[RedisServer], clock: Clock) -> None:
    await share(f"redis+cluster://127.0.0.1:{cluster[1].port}", clock)


async def test_through_sentinels(sentinel: Any, clock: Clock) -> None:
    """Over a failover, too."""
    async with processes(sentinel.url, clock, "one", "two") as (one, two):
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: two.out() and _known(one))
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
