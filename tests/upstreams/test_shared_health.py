"""Outages shared through a real Redis: what one process finds out all know, and one probes.

tests/contracts/test_shared_health.py has Redis away, emptied, moved, and not to be written to.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from proxy.upstreams import health, shared_health
from proxy.upstreams.health import PROBE_S, Why
from proxy.upstreams.news_stream import NEWS, PROBE
from tests.redis_servers import PATIENCE_S, RedisServer
from tests.upstreams.sharing import ERROR, FLASH, PRO, SAID, Clock, Process, known, processes, until


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
        heard, mine = two.health.outage("a", FLASH), one.health.outage("a", FLASH)
        assert heard
        assert mine
        assert (heard.why, heard.exhausted and heard.exhausted.error) == (Why.RATE_LIMITED, ERROR)
        assert abs(mine.until - heard.until) < PATIENCE_S / 2
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
        entries = {""}
        for prober in all_of_them:
            prober.health.exhausted("a", FLASH, SAID)
            before = entries
            await until(lambda before=before: {*map(known, all_of_them)}.isdisjoint(before))
            entries = {*map(known, all_of_them)}
            assert len(entries) == 1
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


async def test_a_probe_that_never_went_up_is_anybodys(redis_server: RedisServer, clock: Clock) -> None:
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: known(one) and known(two))
        clock.advance(18)
        assert await one.probe()
        assert not await two.probe()
        one.health.unclaim("a", FLASH)
        one.shared.release("a", FLASH)
        await until(lambda: not one.pending())
        clock.advance(PROBE_S)  # two's own calls wait as long for what one finds out
        assert await two.probe()


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
        one.configure("another")
        two.configure("another")
        one.health.exhausted("a", FLASH, SAID)  # it ends before the other credential's
        await until(lambda: two.out() and other.out())


async def test_who_starts_later_catches_up(redis_server: RedisServer, clock: Clock) -> None:
    """What is left of it, by Redis's clock; what was over long ago is passed by, and so is what isn't understood."""
    async with processes(redis_server.url, clock, "one") as (one,):
        one.health.exhausted("a", FLASH, SAID)
        await until(lambda: known(one))
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


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "to be sent"])
async def test_what_this_process_found_out_after_others_counts(
    redis_server: RedisServer, clock: Clock, sent: bool
) -> None:
    """The stream's order decides, not the order of hearing: others' older news change nothing."""
    async with processes(redis_server.url, clock, "two") as (two,):
        one = Process(redis_server.url, clock, "one", None, "secret", PATIENCE_S)
        if sent:
            await one.shared.start()
        two.health.exhausted("a", FLASH, SAID)
        clock.advance(18)
        two.health.well("a", FLASH, clock())
        await until(lambda: not known(two))
        one.health.exhausted("a", FLASH, SAID)
        one.follow()
        await until(lambda: two.out() and known(one))
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


async def test_models_that_callers_make_up_fill_no_memory(
    redis_server: RedisServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in health, shared_health:
        monkeypatch.setattr(module, "REMEMBERED", 100)
    async with processes(redis_server.url, clock, "one", "two") as (one, two):
        for number in range(1000):
            one.health.exhausted("a", f"model-{number}", SAID)
        await until(lambda: two.out("a", "model-999"))
        for process in one, two:
            assert len(process.health._outages) <= 101
            assert len(process.shared._told) <= 301, "and what was read at once, at most"


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
            await until(lambda last=last: all(one.shared._stream.last == last for one in all_of_them))
            for one in all_of_them:
                await one.shared._stream.now_ms()  # behind its own question: else the clock is moved before the answer
            await until(lambda: agree(all_of_them))
            out += len(all_of_them[0].outages())
            clock.advance(chance.choice((1.0, 61.0, 601.0)))
    assert out > 100


def agree(all_of_them: list[Process]) -> bool:
    """But for what is too little to be told, and for what the news took."""
    first, *others = [one.outages() for one in all_of_them]
    return all(
        other.keys() == first.keys() and all(abs(other[key] - first[key]) < 0.5 for key in first) for other in others
    )
