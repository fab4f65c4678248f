"""The limiter in memory: the same algorithm behind the interface, with its clock and what came before it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from proxy.limits.interface import Counter
from proxy.limits.memory import RENEWED_EVERY_S, MemoryLimiter
from tests.limits.demand import DAY, amounts, counter, one


async def test_leases_are_kept_alive_while_the_process_lives() -> None:
    """Watching renews them: a call of an hour keeps its place, and what ended is forgotten."""
    now_ms, slept = [0], asyncio.Queue[float]()

    async def sleep(seconds: float) -> None:
        now_ms[0] += int(seconds * 1000)
        await slept.put(seconds)
        await asyncio.sleep(0)

    limiter = MemoryLimiter(lambda: now_ms[0], sleep=sleep)
    assert (await limiter.reserve("long", DAY, one("concurrency", 1))).granted
    watching = asyncio.get_running_loop().create_task(limiter.watch())
    while now_ms[0] < 3_600_000:
        assert await slept.get() == RENEWED_EVERY_S
        assert limiter.over(DAY, one("concurrency", 1))
    watching.cancel()
    limiter.settle("long", {})
    assert not limiter.over(DAY, one("concurrency", 1))


async def test_a_counter_begins_where_the_history_left_it() -> None:
    """The day's calls and the last minute's, of this counter alone."""

    def history(asked: Counter, day: str, now_ms: int) -> Mapping[int, int]:
        return {} if asked.project != "alice" else {0: 7} if asked.kind == "rpd" and day == DAY else {59: 2, 60: 1}

    limiter = MemoryLimiter(lambda: 60_000, history)
    rpd, rpm, other = counter("rpd", 10), counter("rpm", 10), counter("rpm", 10, project="bob")
    assert amounts(await limiter.used(DAY, [rpd, rpm, other])) == [7, 3, 0]
    assert (await limiter.reserve("call", DAY, one("rpd", 10))).granted
    assert amounts(await limiter.used(DAY, [rpd])) == [8]
