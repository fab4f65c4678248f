"""What is asked and said for budgets, by whom and how often. What counts: tests/contracts/test_budgets_of_many.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest
import structlog

from proxy.config.redis_address import parse
from proxy.errors import ProxyRefused
from proxy.limits.interface import Counter, Hold, Spent, Taken
from proxy.limits.money import Spending
from proxy.limits.redis import RedisLimiter
from proxy.limits.scripts import Command
from proxy.limits.telling import AskRest
from proxy.store.redis import Redis, open_redis
from proxy.store.redis_stream import OnAnswer, Script, Value
from tests.contracts.fleet import Fleet, budget
from tests.limits.demand import DAY, one
from tests.limits.in_redis import connect
from tests.redis_servers import RedisServer

BUDGET = budget(100)
HOLDS = [Hold(BUDGET, 1)]


class Sent:
    """What goes to Redis: the scripts' names, and the sizes of their arguments."""

    def __init__(self, redis: Redis) -> None:
        self.sizes: list[int] = []
        self._send = redis.send
        redis.send = self.send  # type: ignore[method-assign]

    def send(self, tag: str, command: tuple[Value, ...], on_answer: OnAnswer, script: Script | None = None) -> None:
        if tag != "@workers":
            self.sizes.append(sum(len(str(part)) for part in command))
        self._send(tag, command, on_answer, script)


def limiter(server: RedisServer, rest: AskRest, on_error: Callable[[], object] = lambda: None) -> RedisLimiter:
    return RedisLimiter(connect(server), "worker", lambda: 0, rest=rest, on_error=on_error)


async def test_a_reserve_is_one_command_of_the_same_size_however_many_workers_there_are(
    redis_server: RedisServer,
) -> None:
    """Once the account is known to be complete."""
    async with Fleet(redis_server.url, timeout_s=20) as fleet:
        _, alone = await fleet.start("control", "a-first")
        sent = Sent(alone.limiter._redis)
        for number in range(2):
            assert await alone.reserve(f"{number}", BUDGET, 1)
        size = sent.sizes[-1]
        for worker in await fleet.start(*(f"worker {number}" for number in range(6))):
            assert await worker.reserve(worker.name, BUDGET, 1)
        sent.sizes.clear()
        assert await alone.reserve("2", BUDGET, 1)
        assert sent.sizes == [size]


async def test_one_process_alone_asks_nobody_and_once_for_the_rest(redis_server: RedisServer) -> None:
    """Its first call: reserved, stated, counted with the rest; the second is one command."""
    asked: list[tuple[str, Collection[str]]] = []

    def rest(project: str, live: Collection[str]) -> Mapping[str, Sequence[Spending]]:
        asked.append((project, live))
        return {"closed out": [Spending("alice", "", "model", "2026-11", 7)], "worker": [Spending("?", "", "", "", 9)]}

    alone = limiter(redis_server, rest)
    await alone.start([], lambda lease_id: None)
    sent = Sent(alone._redis)
    assert (await alone.reserve("first", DAY, HOLDS)).granted
    assert len(sent.sizes) == 5
    assert (await alone.reserve("second", DAY, HOLDS)).granted
    assert len(sent.sizes) == 6
    assert await alone.used(DAY, [BUDGET]) == [Taken(9, 2)]
    assert asked == [("alice", {"worker"})]
    await alone.close()
    after = limiter(redis_server, rest)
    await after.start(["alice"], lambda lease_id: None)
    assert await after.used(DAY, [BUDGET]) == [Taken(7, 0)]
    assert len(asked) == 1, "what the rest spent was known in Redis still"
    await after.close()


async def test_a_rest_that_cannot_be_told_is_logged_once_counted_each_time_and_asked_again(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.limits.telling.REST_AGAIN_S", 0.01)
    errors: list[None] = []
    tries: list[str] = []

    def rest(project: str, live: Collection[str]) -> Mapping[str, Sequence[Spending]]:
        tries.append(project)
        if len(tries) < 4:
            raise OSError("the database is away")
        return {}

    alone = limiter(redis_server, rest, lambda: errors.append(None))
    await alone.start([], lambda lease_id: None)
    with structlog.testing.capture_logs() as lines:
        assert (await alone.reserve("call", DAY, HOLDS)).granted
    assert [line["event"] for line in lines] == ["limiter_rest_unknown"]
    assert (len(tries), len(errors)) == (4, 3)
    await alone.close()


async def test_calls_of_a_project_that_come_at_once_ask_for_its_rest_once(redis_server: RedisServer) -> None:
    tries: list[str] = []

    def rest(project: str, live: Collection[str]) -> Mapping[str, Sequence[Spending]]:
        tries.append(project)
        return {}

    alone = limiter(redis_server, rest)
    await alone.start([], lambda lease_id: None)
    verdicts = await asyncio.gather(*(alone.reserve(f"{number}", DAY, HOLDS) for number in range(200)))
    assert sum(verdict.granted for verdict in verdicts) == 100
    assert tries == ["alice"]
    await alone.close()


async def test_a_call_that_gave_up_while_the_rest_was_sought_takes_nothing(redis_server: RedisServer) -> None:
    """And what is found all the same serves the next."""
    async with Fleet(redis_server.url, timeout_s=0.3) as fleet:
        [control] = await fleet.start("control")
        found = asyncio.Event()
        loop = asyncio.get_running_loop()

        def rest(project: str, live: Collection[str]) -> Mapping[str, Sequence[Spending]]:
            asyncio.run_coroutine_threadsafe(found.wait(), loop).result(30)
            return {}

        control.limiter._telling._rest = rest
        with pytest.raises(ProxyRefused, match="counted anew"):
            await control.reserve("too early", BUDGET, 60)
        found.set()
        assert await control.granted("all", BUDGET, 100)


async def test_a_busy_process_does_not_take_redis_for_away_at_its_first_calls(redis_server: RedisServer) -> None:
    """However long it takes with all of them: else each worker would let in as much as the limit by itself."""
    busy = RedisLimiter(open_redis(parse(redis_server.url), timeout_s=0.3), "worker", lambda: 0)
    await busy.start([], lambda lease_id: None)
    ask = busy._link.ask

    async def works_meanwhile(command: Command) -> Any:
        answer = await ask(command)
        time.sleep(0.03)
        return answer

    busy._link.ask = works_meanwhile  # type: ignore[method-assign]
    verdicts = await asyncio.gather(*(busy.reserve(f"{number}", DAY, one("rpm", 5)) for number in range(20)))
    assert sum(verdict.granted for verdict in verdicts) == 5
    assert not busy.away
    await busy.close()


async def test_a_shadow_budget_waits_for_nobody(redis_server: RedisServer) -> None:
    """It counts, and refuses nobody."""
    async with Fleet(redis_server.url) as fleet:
        shadow = Counter("{alice}:usd:*:shadow:day", "usd", 5, "alice", shadow=True, per="day")
        _, a = await fleet.start("control", "a")
        await fleet.leave("control")
        assert await a.reserve("call", shadow, 10)
        a.spend("alice", 3)
        await fleet.start("control")
        assert await a.used(shadow) == Taken(13, 10)
        assert Spent("alice", "", "m", DAY, 3).on(shadow)
