"""What a worker puts into Redis that it doesn't know: after a start, an outage, older data, or none; each but once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from redis import exceptions

from proxy.limits.interface import Counter, Hold
from tests.limits.demand import DAY, amounts, counter, one
from tests.limits.in_redis import ALL, COUNTERS, HOLDS, NOW_S, arrived, limiting, sent
from tests.redis_servers import RedisServer


async def test_a_counter_begins_where_this_workers_history_left_it(redis_server: RedisServer) -> None:
    """Once for each worker; and no more than once, also by a later process of it."""

    def history(asked: Counter, day: str, now_ms: int) -> Mapping[int, int]:
        return {now_ms // 1000: 7} if asked.kind == "rpd" else {}

    rpd = [counter("rpd", 100)]
    async with limiting(redis_server, "a", history=history) as a:
        assert amounts(await a.used(DAY, rpd)) == [7]
        assert (await a.reserve("call", DAY, one("rpd", 100))).granted
        assert amounts(await a.used(DAY, rpd)) == [8]
    async with limiting(redis_server, "a", history=history) as a, limiting(redis_server, "b", history=history) as b:
        assert amounts(await a.used(DAY, rpd)) == [8]
        assert amounts(await b.used(DAY, rpd)) == [15]


async def test_what_a_process_took_alone_and_died_with_is_put_in_by_the_next(redis_server: RedisServer) -> None:
    """By the ledger it knows that more was taken than Redis says; what others took may be part of that."""
    took = {"rpm": {NOW_S - 30: 2, NOW_S - 1: 3}, "rpd": {NOW_S: 5}, "tpm": {NOW_S - 30: 41, NOW_S - 1: 5}}

    def history(asked: Counter, day: str, now_ms: int) -> Mapping[int, int]:
        ago_s = now_ms // 1000 - NOW_S
        return {second + ago_s: amount for second, amount in took.get(asked.kind, {}).items()}

    async with limiting(redis_server, "a") as a, limiting(redis_server, "b") as b:
        for limiter, lease_id in ((a, "a1"), (a, "a2"), (b, "b1")):
            assert (await limiter.reserve(lease_id, DAY, HOLDS)).granted
            limiter.settle(lease_id, {"tpm": 30})
            await arrived(limiter)
        assert amounts(await b.used(DAY, COUNTERS)) == [3, 90, 3, 0]
        async with limiting(redis_server, "a", history=history) as later:
            assert amounts(await later.used(DAY, COUNTERS)) == [5, 90, 5, 0]
            assert (await later.reserve("a3", DAY, HOLDS)).granted
            assert amounts(await b.used(DAY, COUNTERS)) == [6, 130, 6, 0]


async def test_after_redis_was_emptied_each_worker_puts_in_what_it_took(redis_server: RedisServer) -> None:
    """Open leases too, so that they are settled as if nothing had been."""
    async with limiting(redis_server, "a") as a, limiting(redis_server, "b") as b:
        for limiter, lease_id in ((a, "a1"), (a, "a2"), (b, "b1")):
            assert (await limiter.reserve(lease_id, DAY, ALL)).granted
        a.settle("a1", {"tpm": 50})
        await arrived(a)
        with redis_server.client as client:
            client.flushall()
        await b.used(DAY, COUNTERS)
        assert amounts(await a.used(DAY, COUNTERS)) == [3, 130, 3, 2]
        a.settle("a2", {"tpm": 10})
        b.cancel("b1")
        await asyncio.gather(arrived(a), arrived(b))
        assert amounts(await a.used(DAY, COUNTERS)) == [2, 60, 2, 0]


async def test_what_redis_went_back_on_is_put_in_again(redis_server: RedisServer) -> None:
    """As when it was started again from a snapshot: this worker's mirror knows better. What it knows of stands."""
    async with limiting(redis_server, "a") as a, limiting(redis_server, "b") as b:
        for limiter, lease_id in ((a, "a1"), (b, "b1")):
            assert (await limiter.reserve(lease_id, DAY, ALL)).granted
        with redis_server.client as client:
            snapshot = {key: client.dump(key) for key in client.scan_iter()}
            for lease_id in ("a2", "a3", "a4"):
                assert (await a.reserve(lease_id, DAY, ALL)).granted
            a.settle("a4", {"tpm": 5})
            await arrived(a)
            client.flushall()
            for key, value in snapshot.items():
                client.restore(key, 0, value)
        assert amounts(await b.used(DAY, COUNTERS)) == [2, 80, 2, 2]
        a._link.lost(exceptions.ConnectionError("it was started again"), "alice")
        await a._link._returning
        await arrived(a)
        assert amounts(await b.used(DAY, COUNTERS)) == [4, 125, 4, 4]


async def test_what_redis_went_back_on_is_put_in_again_by_who_had_nothing_on_its_way(redis_server: RedisServer) -> None:
    """Restarted between two calls, it was never away: all that shows of it is that its connection had ended."""
    async with limiting(redis_server) as limiter:
        assert (await limiter.reserve("before", DAY, ALL)).granted
        with redis_server.client as client:
            client.save()
        for lease_id in ("ended", "open"):
            assert (await limiter.reserve(lease_id, DAY, ALL)).granted
        limiter.settle("ended", {"tpm": 5})
        await arrived(limiter)
        [connection] = limiter._redis._streams.values()
        redis_server.stop()
        await connection.closed()
        redis_server.start()
        assert not limiter.away
        assert amounts(await limiter.used(DAY, COUNTERS)) == [3, 85, 3, 2]
        assert (await limiter.reserve("after", DAY, ALL)).granted
        assert amounts(await limiter.used(DAY, COUNTERS)) == [4, 125, 4, 3]
        assert not limiter.away


async def test_an_outage_that_a_full_redis_refused_at_first_counts_once(redis_server: RedisServer) -> None:
    """What was sent takes memory until it is read: the first of it may be refused, and what comes after it may not."""
    async with limiting(redis_server, "a", sleep=lambda _: asyncio.Event().wait()) as a, limiting(redis_server) as b:
        assert (await a.reserve("before", DAY, ALL)).granted
        a._link.lost(exceptions.ConnectionError("it is full"), "alice")
        assert (await a.reserve("alone", DAY, ALL)).granted
        await a._redis.connect()
        owed = a._owed()
        with redis_server.client as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(exceptions.OutOfMemoryError):
                await a._redis.ask(*sent(owed[0]))
            client.config_set("maxmemory", 0)
        for command in (*owed[1:], owed[0]):
            await a._redis.ask(*sent(command))
        assert amounts(await b.used(DAY, COUNTERS)) == [2, 80, 2, 2]


async def test_a_settle_between_is_counted_once_with_what_is_put_in_later(redis_server: RedisServer) -> None:
    """After Redis was emptied, one of a lease's counters may be known there again, and another not yet."""
    tpm = counter("tpm", 1000, key_id="key_1")
    async with limiting(redis_server) as limiter:
        assert (await limiter.reserve("first", DAY, [*one("rpm", 9), Hold(tpm, 40)])).granted
        with redis_server.client as client:
            client.flushall()
        assert (await limiter.reserve("second", DAY, one("rpm", 9))).granted
        limiter.settle("first", {"tpm": 100})
        await arrived(limiter)
        assert amounts(await limiter.used(DAY, [counter("rpm", 9), tpm])) == [2, 100]
