"""What is taken of many limits: asked of the limiter a few at a time, with turns of the loop for others in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from proxy.config.limits import parse
from proxy.control.counted import AT_ONCE, Counted
from proxy.limits.interface import Counter, Hold, Taken, counters
from proxy.limits.memory import MemoryLimiter
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy

pytestmark = pytest.mark.anyio

DAY = "2026-11-21"


def tenant(number: int, project: str, of_project: tuple[str, ...], of_key: tuple[str, ...] = ()) -> Tenant:
    limits = [tuple(parse(text) for text in texts) for texts in (of_project, of_key)]
    return Tenant(project, f"key_{number}", "test", Policy(project_limits=limits[0], key_limits=limits[1]))


class Watched(MemoryLimiter):
    """Notes how many counters it was asked about between two turns of the loop, and whether a project's were mixed."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.in_turn = [0]

    async def used(self, day: str, counters: Sequence[Counter]) -> list[Taken]:
        assert len({counter.project for counter in counters}) == 1, "the limiter's contract"
        self.in_turn[-1] += len(counters)
        return await super().used(day, counters)

    async def turn(self) -> None:
        """One turn after the other, for ever."""
        while True:
            await asyncio.sleep(0)
            self.in_turn.append(0)


MANY = {
    **{
        b"p%d" % one: tenant(one, f"p{one}", ("rpm=5", "ipm=2", "rpm=5,shadow", "usd=9,per=day")) for one in range(1000)
    },
    **{b"k%d" % one: tenant(one, "large", ("rpm=5",), ("rpm=1", "rpd=7")) for one in range(2000)},
}
"""A thousand projects, and one of two thousand keys, each with limits of its own."""


async def test_a_thousand_projects_and_a_project_of_many_keys_are_asked_a_few_at_a_time() -> None:
    limiter = Watched()
    turns = asyncio.get_running_loop().create_task(limiter.turn())
    found: list[Counter] = []
    counted = Counted(lambda: MANY, limiter, lambda limit: not (limit.per or limit.shadow))
    async for some in counted.taken(DAY):
        assert len(some) <= AT_ONCE
        found += [counter for counter, _ in some]
    turns.cancel()
    assert len(found) == len(set(found)) == 1000 * 2 + 1 + 2000 * 2, "each once: the large project's own, too"
    assert max(limiter.in_turn) <= AT_ONCE <= 100
    assert sum(limiter.in_turn) == len(found)


async def test_what_is_told_is_each_counters_own() -> None:
    limiter = MemoryLimiter(lambda: 0)
    tenants = {b"1": tenant(1, "alice", ("rpm=5", "ipm=2"), ("rpm=3",)), b"2": tenant(2, "bob", ("rpm=9",))}
    [alices] = counters("alice", "", (parse("rpm=5"),), ())
    await limiter.reserve("a", DAY, [Hold(alices, 4)])
    counted = Counted(lambda: tenants, limiter, lambda limit: limit.kind == "rpm")
    told = [pair async for some in counted.taken(DAY, lambda counter: counter.project == "alice") for pair in some]
    assert [(counter.key_id, taken.used) for counter, taken in told] == [("", 4), ("key_1", 0)]


async def test_whoever_is_new_is_asked_about_and_whoever_is_gone_is_not() -> None:
    served = {b"1": tenant(1, "alice", ("rpm=5",))}
    counted = Counted(lambda: served, MemoryLimiter(lambda: 0), lambda limit: True)

    async def projects() -> list[str]:
        return [counter.project async for some in counted.taken(DAY) for counter, _ in some]

    assert await projects() == ["alice"]
    served = {b"2": tenant(2, "bob", ("rpm=5",))}
    assert await projects() == ["bob"]
    served = {}
    assert await projects() == []
