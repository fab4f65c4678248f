"""Who counts as live: by what was heard last, and not by what Redis still knows; and what all are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import structlog

from proxy.config.redis_address import parse
from proxy.limits import scripts
from proxy.limits.roll import FOLLOW_TIMEOUT_S, LIVE_MS, SURE_OF_TWIN, Question, Questions, Roll, TwinError
from proxy.limits.scripts import Scripts
from proxy.store.redis import Redis, open_redis
from tests.limits.demand import DAY, counter
from tests.redis_servers import PATIENCE_S, RedisServer

BUDGET = counter("usd", 0)


class Clock:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def test_one_is_live_for_a_minute_after_it_was_heard() -> None:
    clock = Clock()
    roll = Roll("me", clock, ["handed in"])
    roll.take([0, 5 * LIVE_MS, b"", b"me", 0, b"fresh", 10, b"old", LIVE_MS - 10, b"older", LIVE_MS, b"gone", -1])
    assert roll.live() == {"handed in", "fresh", "old"}
    clock.now_ms += 10
    assert roll.live() == {"handed in", "fresh"}
    assert not roll.is_live("never heard of")


def test_an_emptied_register_has_nobody_forgotten() -> None:
    clock = Clock()
    roll = Roll("me", clock)
    roll.take([0, 5 * LIVE_MS, b"", b"me", 0, b"other", 0])
    clock.now_ms += LIVE_MS - 1
    roll.take([0, 0, b"", b"me", 0])
    assert roll.live() == {"other"}
    clock.now_ms += 1
    assert roll.live() == set()


def test_of_one_whom_nobody_knows_an_old_register_is_certain_and_a_new_one_is_not() -> None:
    clock = Clock()
    roll = Roll("me", clock)
    roll.take([0, LIVE_MS - 1, b"", b"me", 0])
    assert roll.is_live("unknown")
    clock.now_ms += 1
    assert not roll.is_live("unknown")


def test_one_who_left_is_not_live_until_it_is_heard_again() -> None:
    clock = Clock()
    roll = Roll("me", clock)
    roll.heard("other")
    roll.left("other")
    assert not roll.is_live("other")
    clock.now_ms += 5
    roll.take([0, LIVE_MS, b"", b"other", 2])
    assert roll.is_live("other")


def test_the_dead_are_forgotten_after_ten_minutes() -> None:
    clock = Clock()
    roll = Roll("me", clock, [f"{number}" for number in range(1000)])
    roll.left("7")
    clock.now_ms += 10 * LIVE_MS + 1
    roll.take([0, LIVE_MS, b""])
    assert (roll._heard_at, roll._left) == ({}, set())


def connect(server: RedisServer, timeout_s: float = PATIENCE_S) -> Redis:
    return open_redis(parse(server.url), timeout_s=timeout_s)


async def beat(redis: Redis, worker: str, *, leaves: bool = False) -> Roll:
    """What one who beats knows of others."""
    _, script, arguments = Scripts(worker).beat(leaves=leaves)
    roll = Roll(worker, Clock())
    roll.take(await redis.ask(scripts.WORKERS, arguments, script))
    return roll


async def test_those_who_beat_know_each_other_and_who_left(redis_server: RedisServer) -> None:
    redis = connect(redis_server)
    await redis.connect()
    assert (await beat(redis, "a")).live() == set()
    assert (await beat(redis, "b")).live() == {"a"}
    assert (await beat(redis, "c", leaves=True)).live() == {"a", "b"}
    roll = await beat(redis, "a")
    assert roll.live() == {"b"}
    assert not roll.is_live("c")
    with redis_server.client as client:
        assert client.xlen("wb:{@workers}:asked") == 3  # of each once, however often it beats
        assert all(0 < client.ttl(key) <= 600 for key in client.keys("wb:{@workers}:*"))  # type: ignore[operator, union-attr]
    await redis.close()


async def test_of_two_with_one_ledger_file_the_later_one_ends(redis_server: RedisServer) -> None:
    """A data_dir that was cloned: neither would know of what the other spends."""
    redis = connect(redis_server)
    await redis.connect()

    def process(began: str) -> Callable[[], Awaitable[None]]:
        _, script, arguments = Scripts("a", began).beat()
        roll = Roll("a", Clock(), began=began)

        async def beats() -> None:
            roll.take(await redis.ask(scripts.WORKERS, arguments, script))

        return beats

    dead, first, later = process("1-0"), process("2-0"), process("3-0")
    await dead()
    await first()  # takes a dead one's place
    await first()
    await later()
    for _ in range(SURE_OF_TWIN - 1):
        await first()
        await later()
    await first()
    with pytest.raises(TwinError, match="cloned"):
        await later()
    with redis_server.client as client:
        client.flushall()
    await first()
    await redis.close()


async def test_a_dead_predecessor_that_redis_went_back_to_is_no_twin(redis_server: RedisServer) -> None:
    """It has older data, or a replica that lagged was made master: whoever began since would end."""
    redis = connect(redis_server)
    await redis.connect()
    _, script, arguments = Scripts("a", "2-0").beat()
    roll = Roll("a", Clock(), began="2-0")
    with redis_server.client as client:
        for _ in range(SURE_OF_TWIN + 1):
            for older in ("1-0", "2-0"):
                client.hset(scripts.BEGAN, "a", older)
                roll.take(await redis.ask(scripts.WORKERS, arguments, script))
    await redis.close()


async def test_questions_reach_all_others_also_after_redis_was_emptied_and_away(redis_server: RedisServer) -> None:
    """Who joins and leaves is heard with them; an outage of it is told once."""
    asking, following = connect(redis_server), connect(redis_server, FOLLOW_TIMEOUT_S)
    await asking.connect()
    clock, heard = Clock(), asyncio.Queue[Question]()
    roll, hearing = Roll("me", clock), asyncio.Event()
    mine = Questions("me", asking, following, roll, lambda seconds: asyncio.sleep(seconds / 10))
    others = Questions("other", asking, following, Roll("other", clock), asyncio.sleep)
    task = asyncio.get_running_loop().create_task(mine.follow(heard.put_nowait, hearing.set))
    question = Question("alice", DAY, (BUDGET,))
    async with asyncio.timeout(PATIENCE_S):
        await hearing.wait()
        mine.ask(*question)
        others.ask_once(*question, now_ms=0)
        others.ask_once(*question, now_ms=100)  # is not asked again so soon
        others.ask_once(*question, now_ms=150)
        assert [await heard.get(), await heard.get()] == [question, question]
        assert roll.live() == {"other"}
        with redis_server.client as client:
            client.flushall()
        await beat(asking, "third")
        others.ask("alice", DAY, ())
        assert await heard.get() == Question("alice", DAY, ())
        assert roll.live() == {"other", "third"}
        hearing.clear()
        with structlog.testing.capture_logs() as lines:
            redis_server.stop()
            while mine.hears:
                await asyncio.sleep(0.02)
            redis_server.start()
            await hearing.wait()
        assert [line["event"] for line in lines] == ["limiter_questions_unheard", "limiter_questions_back"]
        await asking.connect()
        others.ask(*question)
        assert await heard.get() == question
    assert heard.empty()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await mine.close()
    await asking.close()
