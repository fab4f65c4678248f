"""The limiter in Redis: round trips and writes, what several workers share, and what an earlier process left behind."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from proxy.config.limits import PERIODS, Limit
from proxy.config.redis_address import parse
from proxy.limits.interface import CANCELLED, Hold, Spent, Taken, counters
from proxy.limits.redis import RedisLimiter
from proxy.limits.scripts import held
from proxy.store.redis import open_redis
from tests.limits.demand import DAY, amounts, counter, one
from tests.limits.in_redis import ALL, COUNTERS, HOLDS, NOW_MS, Counting, arrived, connect, limiting
from tests.redis_servers import PATIENCE_S, RedisServer, SetClock


async def test_a_reserve_is_one_round_trip_and_nobody_waits_for_a_settle(redis_server: RedisServer) -> None:
    """Once a counter is known: one command to reserve, one to settle or cancel, however many limits apply."""
    async with limiting(redis_server) as limiter:
        assert (await limiter.reserve("first", DAY, ALL)).granted
        limiter.settle("first", {"tpm": 41})
        await arrived(limiter)
        before = Counting.commands
        assert (await limiter.reserve("second", DAY, ALL)).granted
        assert Counting.commands == before + 1
        limiter.settle("second", {"tpm": 41})
        assert (await limiter.reserve("third", DAY, ALL)).granted
        assert Counting.commands == before + 3


async def test_budgets_take_no_further_round_trip(redis_server: RedisServer) -> None:
    """Nor a command more, however many there are: what was spent is told with the settle."""
    limits = tuple(Limit("usd", 10**12, per=per) for per in PERIODS)
    budgets = [Hold(counter, 10**6) for counter in counters("alice", "key_1", limits, limits)]
    spent = Spent("alice", "key_1", "gemini-3.8-flash", DAY, 10**6)
    async with limiting(redis_server) as limiter:
        assert (await limiter.reserve("first", DAY, [*ALL, *budgets])).granted
        limiter.settle("first", {"tpm": 41}, spent)
        await arrived(limiter)
        writes, commands = Counting.writes, Counting.commands
        assert (await limiter.reserve("second", DAY, [*ALL, *budgets])).granted
        limiter.settle("second", {"tpm": 41}, spent)
        limiter.settle("of no lease", {}, spent)
        assert (await limiter.reserve("third", DAY, [*ALL, *budgets])).granted
        assert (Counting.writes - writes, Counting.commands - commands) == (2, 4)
        assert set(await limiter.used(DAY, [hold.counter for hold in budgets])) == {Taken(4 * 10**6, 10**6)}


async def test_calls_of_one_turn_of_the_loop_share_a_write(redis_server: RedisServer) -> None:
    async with limiting(redis_server) as limiter:
        for lease_id in ("first", "second"):
            await limiter.reserve(lease_id, DAY, HOLDS)
        limiter.settle("first", {})
        await arrived(limiter)
        writes, commands = Counting.writes, Counting.commands

        async def settle() -> None:
            limiter.settle("second", {})

        await asyncio.gather(settle(), *(limiter.reserve(f"call {number}", DAY, HOLDS) for number in range(50)))
        assert (Counting.writes - writes, Counting.commands - commands) == (1, 51)


async def test_workers_share_what_they_count(redis_server: RedisServer) -> None:
    """What one has taken, the other finds taken."""
    async with limiting(redis_server, "a") as a, limiting(redis_server, "b") as b:
        verdicts = [await (a, b)[number % 2].reserve(f"call {number}", DAY, one("rpd", 5)) for number in range(8)]
        assert [verdict.granted for verdict in verdicts] == [True] * 5 + [False] * 3
        a.cancel("call 0")
        await arrived(a)
        assert amounts(await b.used(DAY, [counter("rpd", 5)])) == [4]


async def test_the_rights_that_the_docs_ask_for_are_enough(redis_server: RedisServer) -> None:
    """docs/redis.md gives the command that makes a user for it."""
    page = (Path(__file__).parent.parent.parent / "docs" / "redis.md").read_text("utf-8")
    made = re.search(r"ACL SETUSER (.*?)```", page, re.DOTALL)
    assert made is not None
    with redis_server.client as client:
        client.execute_command("ACL", "SETUSER", *made[1].split())
        address = parse(f"redis://weighbridge@127.0.0.1:{redis_server.port}/1")
        redis, following = (open_redis(address, "PASSWORD", timeout_s=PATIENCE_S) for _ in range(2))
        limiter = RedisLimiter(redis, "worker", lambda: NOW_MS, following=following)
        await limiter.start(["alice"], lambda lease_id: None)
        assert limiter._questions
        watching = asyncio.get_running_loop().create_task(limiter.watch())
        while not limiter._questions.hears:
            await asyncio.sleep(0.01)
        [budget] = counters("alice", "", [Limit("usd", 10**9, per="month")], ())
        for number in range(3):
            assert (await limiter.reserve(f"{number}", DAY, [*ALL, Hold(budget, 10)])).granted
        limiter.settle("0", {"tpm": 50}, Spent("alice", "key_1", "gemini-3.8-flash", DAY, 7))
        limiter._questions.ask("alice", DAY, [budget])
        limiter.cancel("1")
        limiter.cancel("unknown")
        for command in limiter._renewals():
            await limiter._link.ask(command)
        assert amounts(await limiter.used(DAY, COUNTERS)) == [2, 90, 2, 1]
        assert await limiter.used(DAY, [budget]) == [Taken(17, 10)]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await limiter.close()
        assert client.execute_command("ACL", "LOG") == []


async def test_what_an_earlier_process_left_is_settled_or_cancelled(redis_server: RedisServer) -> None:
    """By what is known of it: of leases with a record what they took, of the others nothing was sent."""
    died = RedisLimiter(connect(redis_server), "a", lambda: NOW_MS)
    await died.start([], lambda lease_id: None)
    for lease_id in ("recorded", "unknown"):
        assert (await died.reserve(lease_id, DAY, ALL)).granted
    async with limiting(redis_server, "b") as b:
        assert (await b.reserve("another's", DAY, ALL)).granted
        async with limiting(redis_server, "a", projects=("alice", "bob"), settled={"recorded": {"tpm": 25}}) as a:
            await arrived(a)
            assert amounts(await a.used(DAY, COUNTERS)) == [2, 65, 2, 1]
    await died.close()


async def test_a_cancel_that_overtakes_its_reserve_has_it_refused(redis_server: RedisServer) -> None:
    """Also where it went another way: the reserve comes late, over a connection that was given up."""
    async with limiting(redis_server) as limiter, limiting(redis_server) as late:
        limiter.cancel("call")
        assert await limiter.reserve("call", DAY, ALL) == CANCELLED
        asked = asyncio.get_running_loop().create_task(limiter.reserve("left", DAY, ALL))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        limiter._cancel_in_redis("late", held(DAY, ALL), "alice")
        await arrived(limiter)
        assert await late.reserve("late", DAY, ALL) == CANCELLED
        assert amounts(await limiter.used(DAY, COUNTERS)) == [0, 0, 0, 0]


async def test_a_cancel_while_the_reserve_is_on_its_way_gives_all_back(redis_server: RedisServer) -> None:
    async with limiting(redis_server) as limiter:
        await limiter.used(DAY, COUNTERS)
        asked = asyncio.get_running_loop().create_task(limiter.reserve("call", DAY, ALL))
        await asyncio.sleep(0)
        limiter.cancel("call")
        assert await asked == CANCELLED
        await arrived(limiter)
        assert amounts(await limiter.used(DAY, COUNTERS)) == [0, 0, 0, 0]


async def test_a_refusal_is_remembered_without_asking_redis(redis_server: RedisServer) -> None:
    """Of rpm and rpd, which every call takes; not of tokens, of which the next call may want fewer."""
    full = [*one("rpm", 1), *one("tpm", 10, 10), *one("rpd", 1)]
    async with limiting(redis_server) as limiter:
        assert not limiter.over(DAY, full)
        assert (await limiter.reserve("first", DAY, full)).granted
        refused = (await limiter.reserve("second", DAY, full)).refused
        commands = Counting.commands
        assert [over.counter.kind for over in refused] == ["rpm", "tpm", "rpd"]
        assert [over.counter.kind for over in limiter.over(DAY, full)] == ["rpm", "rpd"]
        assert Counting.commands == commands


async def test_ten_minutes_of_spending_take_no_more_buckets_than_a_minute_of_calls(
    valkey: tuple[RedisServer, SetClock],
) -> None:
    """A reserve never reads more than 61 of them, and the key goes when none of them counts any more."""
    server, clock = valkey
    spending = one("usd_per_10min", 9 * 10**15, 10**12)
    async with limiting(server) as limiter:
        for number in range(200):
            clock.set(clock.now_s + 5)
            assert (await limiter.reserve(f"call {number}", DAY, spending)).granted
        assert amounts(await limiter.used(DAY, [spending[0].counter])) == [121 * 10**12]
        with server.client as client:
            [key] = client.keys("wb:*usd_per_10min")
            assert client.hlen(key) == 61 + len(("total", "oldest", "newest"))
            assert 600 < client.ttl(key) <= 650
        clock.set(clock.now_s + 600)
        assert amounts(await limiter.used(DAY, [spending[0].counter])) == [10**12]


async def test_what_redis_forgot_of_its_scripts_is_sent_again(redis_server: RedisServer) -> None:
    """SCRIPT FLUSH between, and in the midst of a write of many."""
    async with limiting(redis_server) as limiter:
        await limiter.reserve("first", DAY, HOLDS)
        with redis_server.client as client:
            client.script_flush()
        verdicts = await asyncio.gather(*(limiter.reserve(f"{number}", DAY, HOLDS) for number in range(20)))
        assert all(verdict.granted for verdict in verdicts)
        assert not limiter.away
        assert amounts(await limiter.used(DAY, COUNTERS[:1])) == [21]


async def test_a_dead_workers_concurrency_is_free_after_a_minute_and_a_living_ones_is_not(
    valkey: tuple[RedisServer, SetClock],
) -> None:
    """Renewals keep it, and put it back where they came late."""
    waits: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        waited = asyncio.get_running_loop().create_future()
        await waits.put(waited)
        await waited

    two = one("concurrency", 2)
    server, clock = valkey
    async with limiting(server, "lives", sleep=sleep) as lives, limiting(server, "asks") as asks:
        died = RedisLimiter(connect(server), "died", lambda: NOW_MS)
        await died.start([], lambda lease_id: None)
        assert (await died.reserve("its", DAY, two)).granted
        assert (await lives.reserve("own", DAY, two)).granted
        watching = asyncio.get_running_loop().create_task(lives.watch())
        clock.set(clock.now_s + 59)
        (await waits.get()).set_result(None)
        wait = await waits.get()
        await arrived(lives)
        assert not (await asks.reserve("more", DAY, two)).granted
        clock.set(clock.now_s + 1)
        assert amounts(await asks.used(DAY, [two[0].counter])) == [1]
        clock.set(clock.now_s + 60)
        assert amounts(await asks.used(DAY, [two[0].counter])) == [0]
        wait.set_result(None)
        await waits.get()
        await arrived(lives)
        assert amounts(await asks.used(DAY, [two[0].counter])) == [1]
        watching.cancel()
        await died.close()
