"""Redis away, in every way that it can be: no reserve hangs, what passes is bounded, nothing is lost, and it heals."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import redis
import structlog

from proxy.config.redis_address import parse
from proxy.errors import ProxyRefused, Reason
from proxy.limits.interface import Counter, Hold, Spent, Taken
from proxy.limits.redis import RedisLimiter
from proxy.store.redis import open_redis
from tests.limits.demand import DAY, amounts, counter, one
from tests.redis_servers import RedisServer, running_redis, running_sentinel

BOUND_S = 2.0
"""No call hangs longer. The limiter itself gives Redis one second: the rest is for a busy machine."""
LIMIT = 10
RPM = one("rpm", LIMIT)
RPD = one("rpd", 1000)
CALL = [*RPM, Hold(counter("tpm", 1000), 10), Hold(counter("rpd", 1000), 1), Hold(counter("concurrency", 1000), 1)]


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(
            running_redis(tmp_path / f"redis{len(list(tmp_path.iterdir()))}", *arguments)
        )


@asynccontextmanager
async def limiting(
    url: str,
    worker: str = "worker",
    on_down: Literal["local", "deny"] = "local",
    password: str | None = None,
    projects: Sequence[str] = (),
) -> AsyncIterator[RedisLimiter]:
    limiter = RedisLimiter(
        open_redis(parse(url), password), worker, lambda: time.time_ns() // 1_000_000, on_down=on_down
    )
    await limiter.start(projects, lambda lease_id: None)
    try:
        yield limiter
    finally:
        await limiter.close()


async def reserve(limiter: RedisLimiter, lease_id: str, holds: list[Hold] = CALL) -> bool:
    """Whether it is granted, which takes no longer than it may."""
    async with asyncio.timeout(BOUND_S):
        return (await limiter.reserve(lease_id, DAY, holds)).granted


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0.02)


async def back(limiter: RedisLimiter) -> None:
    await until(lambda: not limiter.away)
    await limiter._redis.drain()


COUNTERS: list[Counter] = [hold.counter for hold in CALL]


async def alone(limiter: RedisLimiter) -> None:
    """What a limiter does while Redis is away: the limit holds, as far as it was counted here; at once."""
    granted = 0
    async with asyncio.timeout(BOUND_S):
        for number in range(3 * LIMIT):
            granted += (await limiter.reserve(f"alone {number}", DAY, CALL)).granted
    assert limiter.away
    assert granted == LIMIT - 2  # it had granted two before
    assert limiter.over(DAY, RPM)


async def and_then_back(limiter: RedisLimiter, other: RedisLimiter) -> None:
    """What was granted meanwhile is put into Redis, and what was settled is: another worker finds it there."""
    limiter.settle("before", {"tpm": 15})
    limiter.settle("alone 0", {"tpm": 4})
    limiter.cancel("alone 1")
    await back(limiter)
    limiter.settle("alone 2", {"tpm": 12})
    await limiter._redis.drain()
    await other.used(DAY, COUNTERS)  # it may see only now that Redis was away
    await back(other)
    assert amounts(await other.used(DAY, COUNTERS)) == [LIMIT - 1, 15 + 4 + 12 + 10 * (LIMIT - 4), LIMIT - 1, LIMIT - 4]


async def test_stopped_and_started_again_empty(redis_server: RedisServer) -> None:
    async with limiting(redis_server.url) as limiter, limiting(redis_server.url, "other") as other:
        assert await reserve(limiter, "before")
        assert await reserve(limiter, "open")
        redis_server.stop()
        await alone(limiter)
        redis_server.start()
        await and_then_back(limiter, other)


async def test_frozen(redis_server: RedisServer) -> None:
    """Those who ask it then all wait their second together, and nobody afterwards."""
    async with limiting(redis_server.url) as limiter, limiting(redis_server.url, "other") as other:
        assert await reserve(limiter, "before")
        assert await reserve(limiter, "open")
        redis_server.send(signal.SIGSTOP)
        asked = ["open", *(f"alone {number}" for number in range(3 * LIMIT))]
        granted = await asyncio.gather(*(reserve(limiter, lease_id) for lease_id in asked))
        assert sum(granted) == 1 + LIMIT - 2  # what is open is granted once more
        await asyncio.sleep(0.7)  # so that it is probed once, in vain
        assert not await reserve(limiter, "more")
        redis_server.send(signal.SIGCONT)
        await and_then_back(limiter, other)


async def test_slow(redis_server: RedisServer) -> None:
    """At 200 ms an answer, all goes on as before, only slower."""
    async with delaying(redis_server.port, 0.2) as port, limiting(f"redis://127.0.0.1:{port}") as limiter:
        granted = await asyncio.gather(*(reserve(limiter, f"call {number}") for number in range(3 * LIMIT)))
        assert sum(granted) == LIMIT
        assert not limiter.away


async def test_failed_over_to_a_replica(tmp_path: Path) -> None:
    """Sentinels name another master: it is used as soon as it is one."""
    with running_sentinel(tmp_path) as watched:
        async with limiting(watched.url) as limiter, limiting(watched.url, "other") as other:
            assert await reserve(limiter, "before")
            assert await reserve(limiter, "open")
            with watched.master.client as client:
                client.execute_command("WAIT", 1, 1000)
            watched.master.stop()
            await alone(limiter)
            await and_then_back(limiter, other)


async def test_a_master_that_became_a_replica(redis_server: RedisServer) -> None:
    async with limiting(redis_server.url) as limiter, limiting(redis_server.url, "other") as other:
        assert await reserve(limiter, "before")
        assert await reserve(limiter, "open")
        with redis_server.client as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            await alone(limiter)
            client.execute_command("REPLICAOF", "NO", "ONE")
        await and_then_back(limiter, other)


async def test_out_of_memory(redis_server: RedisServer) -> None:
    async with limiting(redis_server.url) as limiter, limiting(redis_server.url, "other") as other:
        assert await reserve(limiter, "before")
        assert await reserve(limiter, "open")
        with redis_server.client as client:
            client.config_set("maxmemory", 1)
            with structlog.testing.capture_logs() as lines:
                await alone(limiter)
            client.config_set("maxmemory", 0)
        assert [line["advice"] for line in lines] == [
            "it is full: raise its maxmemory, or give limits a Redis of their own"
        ]
        await and_then_back(limiter, other)


async def test_a_password_that_changed(redis_server: RedisServer) -> None:
    """It is told once, with what to look at and without the password; when that is right, it is back."""
    async with limiting(redis_server.url, password=None) as limiter, limiting(redis_server.url, "other") as other:
        assert await reserve(limiter, "before")
        assert await reserve(limiter, "open")
        with redis_server.client as client, structlog.testing.capture_logs() as lines:
            client.config_set("requirepass", "geheim")
            with redis.Redis("127.0.0.1", redis_server.port, password="geheim") as entitled:
                entitled.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await until(lambda: not limiter._redis._streams or limiter.away or _failed(limiter))
                await alone(limiter)
                await asyncio.sleep(0.7)
                entitled.config_set("requirepass", "")
        assert "geheim" not in str(lines)
        await and_then_back(limiter, other)


def _failed(limiter: RedisLimiter) -> bool:
    return any(stream.error for stream in limiter._redis._streams.values())


@pytest.mark.parametrize("given", [None, "wrong"])
async def test_a_wrong_password_from_the_start(start_redis: Callable[..., RedisServer], given: str | None) -> None:
    """The server starts all the same, alone, and says what to look at."""
    server = start_redis("--requirepass", "geheim")
    with structlog.testing.capture_logs() as lines:
        async with limiting(server.url, password=given) as limiter:
            assert limiter.away
            assert await reserve(limiter, "call")
    assert "storage.redis_password_env" in lines[0]["advice"]
    assert "geheim" not in str(lines)


async def test_scripts_flushed(redis_server: RedisServer) -> None:
    """Nobody notices: the scripts are sent again."""
    async with limiting(redis_server.url) as limiter:
        assert await reserve(limiter, "before")
        with redis_server.client as client:
            client.script_flush()
        granted = await asyncio.gather(*(reserve(limiter, f"call {number}") for number in range(3 * LIMIT)))
        assert sum(granted) == LIMIT - 1
        assert not limiter.away


async def test_local_lets_through_the_limit_of_each_worker_and_no_more(redis_server: RedisServer) -> None:
    """Three workers that begin a minute in an outage: three times the limit, and none more when it is back."""
    async with (
        limiting(redis_server.url, "a") as a,
        limiting(redis_server.url, "b") as b,
        limiting(redis_server.url, "c") as c,
    ):
        redis_server.stop()
        workers, granted = (a, b, c), 0
        for number in range(4 * LIMIT):
            granted += sum([await reserve(worker, f"{number}", RPM) for worker in workers])
        assert granted == LIMIT * len(workers)
        redis_server.start()
        for worker in workers:
            await back(worker)
        assert amounts(await a.used(DAY, [RPM[0].counter])) >= [LIMIT]
        for worker in workers:
            assert not await reserve(worker, "after", RPM)


async def test_deny_refuses_all_that_is_limited_and_keeps_what_was_granted(redis_server: RedisServer) -> None:
    async with limiting(redis_server.url, on_down="deny") as limiter, limiting(redis_server.url, "other") as other:
        assert await reserve(limiter, "before")
        assert await reserve(limiter, "open")
        redis_server.send(signal.SIGSTOP)
        for lease_id in ("first", "second"):
            with pytest.raises(ProxyRefused) as refused:
                await reserve(limiter, lease_id)
            assert refused.value.reason is Reason.LIMITER_UNAVAILABLE
            assert "Redis" not in str(refused.value), "what the operator runs is nothing to callers"
        with pytest.raises(ProxyRefused, match="Redis doesn't answer"):
            await limiter.used(DAY, COUNTERS)
        assert await reserve(limiter, "free", [])
        limiter.settle("before", {"tpm": 15})
        redis_server.send(signal.SIGCONT)
        await back(limiter)
        assert amounts(await other.used(DAY, COUNTERS)) == [2, 25, 2, 1]
        assert await reserve(limiter, "after")


async def test_what_was_left_and_cannot_be_looked_up_keeps_redis_away_until_it_can(redis_server: RedisServer) -> None:
    """The ledger may fail while what an earlier process left is looked up: that is told once, and tried again."""
    died = RedisLimiter(open_redis(parse(redis_server.url)), "worker", lambda: 0)
    await died.start([], lambda lease_id: None)
    assert await reserve(died, "left")
    tries = []

    def settled(lease_id: str) -> dict[str, int]:
        tries.append(lease_id)
        if len(tries) < 4:
            raise ValueError("the ledger can't be read")
        return {"tpm": 25}

    redis_server.send(signal.SIGSTOP)
    errors: list[None] = []
    limiter = RedisLimiter(
        open_redis(parse(redis_server.url)),
        "worker",
        lambda: 0,
        on_error=lambda: errors.append(None),
        sleep=lambda _: asyncio.sleep(0.01),
    )
    await limiter.start(["alice"], settled)
    with structlog.testing.capture_logs() as lines:
        redis_server.send(signal.SIGCONT)
        await back(limiter)
    assert [line["event"] for line in lines] == ["limiter_kept_away", "limiter_back"]
    assert len(errors) >= len(tries)  # counted each time, so that an alert can see that it lasts
    assert amounts(await limiter.used(DAY, COUNTERS)) == [1, 25, 1, 0]
    await limiter.close()
    await died.close()


async def test_an_outage_that_is_put_in_twice_counts_once(redis_server: RedisServer) -> None:
    """Where Redis took it and its answer was lost."""
    async with limiting(redis_server.url) as limiter:
        await limiter.used(DAY, COUNTERS)
        redis_server.send(signal.SIGSTOP)
        assert await reserve(limiter, "alone")
        owed = limiter._owed()
        limiter._link._queue.extend(owed)
        redis_server.send(signal.SIGCONT)
        await back(limiter)
        for command in owed * 2:
            await limiter._link.ask(command)
        assert amounts(await limiter.used(DAY, COUNTERS)) == [1, 10, 1, 1]


@asynccontextmanager
async def delaying(port: int, seconds: float) -> AsyncIterator[int]:
    """A way to a server on which an answer takes that long; its port."""
    tasks: set[asyncio.Task[Any]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            asyncio.get_running_loop().call_later(seconds / 2, writer.write, data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, back))
        for way in (carry(reader, back), carry(there, writer)):
            tasks.add(asyncio.get_running_loop().create_task(way))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        for writer in writers:
            writer.close()
        await asyncio.gather(*tasks, *(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_what_waits_for_redis_does_not_pile_up(redis_server: RedisServer) -> None:
    """Its user may write and run no script: however often it is probed meanwhile, no more waits than before."""
    waiting: list[int] = []

    async def sleep(seconds: float) -> None:
        waiting.append(len(limiter._link._queue))
        assert await reserve(limiter, f"alone {len(waiting)}", RPD)
        await asyncio.sleep(0.01)

    limiter = RedisLimiter(open_redis(parse(redis_server.url)), "worker", lambda: time.time_ns() // 10**6, sleep=sleep)
    await limiter.start([], lambda lease_id: None)
    assert await reserve(limiter, "before", RPD)
    with redis_server.client as client:
        client.acl_setuser("default", enabled=True, commands=["-evalsha", "-eval"])
        assert await reserve(limiter, "first", RPD)
        await until(lambda: len(waiting) >= 20)
        client.acl_setuser("default", enabled=True, categories=["+@all"])
    await back(limiter)
    assert len(set(waiting[5:])) == 1, waiting
    assert amounts(await limiter.used(DAY, [RPD[0].counter])) == [2 + len(waiting)]
    await limiter.close()


@pytest.mark.parametrize("spoiled", ["rpd:" + DAY, "concurrency", "leases:worker", "stated"])
async def test_a_key_that_another_program_spoiled_is_its_projects_misfortune_alone(
    redis_server: RedisServer, spoiled: str
) -> None:
    """That project is decided alone, from the start on, and told; once its keys are removed, Redis has all again."""
    bobs = [Hold(counter(kind, LIMIT, project="bob"), 1) for kind in ("rpd", "concurrency")]
    alices = [Hold(counter(kind, LIMIT), 1) for kind in ("rpd", "concurrency")]
    with redis_server.client as client, structlog.testing.capture_logs() as lines:
        client.set(f"wb:{{alice}}:{spoiled}", "junk")
        async with limiting(redis_server.url, projects=("alice", "bob")) as limiter:
            assert sum([await reserve(limiter, f"alice {number}", alices) for number in range(2 * LIMIT)]) == LIMIT
            assert sum([await reserve(limiter, f"bob {number}", bobs) for number in range(2 * LIMIT)]) == LIMIT
            limiter.settle("alice 0", {})
            limiter.settle("bob 0", {})
            await limiter._redis.drain()
            assert not limiter.away
            assert client.get(f"wb:{{bob}}:rpd:{DAY}") == str(LIMIT)
            client.delete(*client.keys("wb:{alice}:*"))
            assert amounts(await limiter.used(DAY, [hold.counter for hold in alices])) == [LIMIT, LIMIT - 1]
            assert client.get(f"wb:{{alice}}:rpd:{DAY}") == str(LIMIT)
    assert [line["project"] for line in lines if line["event"] == "limiter_key_spoiled"] == ["alice"]


async def test_money_that_a_spoiled_key_kept_from_being_settled_is_stated_anew(redis_server: RedisServer) -> None:
    """Else it would be held for ever."""
    budget = Counter("{alice}:usd:total", "usd", 100, "alice", per="total")
    async with limiting(redis_server.url) as limiter:
        assert (await limiter.reserve("call", DAY, [Hold(budget, 60)])).granted
        with redis_server.client as client:
            client.rename("wb:{alice}:leases:worker", "kept")
            client.set("wb:{alice}:leases:worker", "junk")
            limiter.settle("call", {}, Spent("alice", "key_1", "gemini-3.8-flash", DAY, 40))
            await limiter._redis.drain()
            client.rename("kept", "wb:{alice}:leases:worker")
        assert await limiter.used(DAY, [budget]) == [Taken(40, 0)]
