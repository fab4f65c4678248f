"""`limit_used_ratio`: of each project and kind, how much is used of that of which most is."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.billing.periods import Days
from proxy.config.limits import parse
from proxy.control.limits_used import LimitsUsed
from proxy.errors import ProxyRefused, Reason
from proxy.limits.interface import Hold, counters
from proxy.limits.memory import MemoryLimiter
from proxy.telemetry.metrics import Metrics
from tests.billing.sample import NOON
from tests.control.test_counted import DAY, tenant

pytestmark = pytest.mark.anyio

OF_ALICE = ("rpm=10", "rpm=4,model=*-image", "concurrency=2", "rpm=1,shadow", "usd=1,per=day", "rpd=0")
TENANTS = {
    b"1": tenant(1, "alice", OF_ALICE, ("rpm=5",)),
    b"2": tenant(2, "alice", OF_ALICE),
    b"3": tenant(3, "bob", ("usd=1,per=day",)),
}


class Limiter(MemoryLimiter):
    """In memory, and as one in Redis is when that is away."""

    away = False
    refuses = False

    @property
    def counted_in(self) -> Any:
        return "memory while redis is away" if self.away else "redis"

    async def used(self, *asked: Any) -> Any:
        if self.refuses:
            raise ProxyRefused(Reason.LIMITER_UNAVAILABLE, "Redis is away.")
        return await super().used(*asked)


def told(metrics: Metrics) -> dict[tuple[str, str], float]:
    [family] = [one for one in metrics.registry.collect() if one.name == "weighbridge_limit_used_ratio"]
    return {(sample.labels["project"], sample.labels["limit"]): sample.value for sample in family.samples}


async def test_of_a_projects_limits_of_a_kind_the_fullest_is_told() -> None:
    """Also where it is a key's, or that of some models. A shadow limit refuses nobody, and a budget has a metric of its
    own; of a limit of nothing, nothing can be used."""
    limiter, metrics = Limiter(lambda: NOON // 1000), Metrics("1", [])
    looking = LimitsUsed(lambda: TENANTS, limiter, lambda: Days("UTC"), lambda: NOON, metrics)
    await looking.look()
    assert told(metrics) == {("alice", "rpm"): 0, ("alice", "concurrency"): 0, ("alice", "rpd"): 0}
    all_of_alices = counters("alice", "key_1", tuple(parse(text) for text in OF_ALICE[:4]), (parse("rpm=5"),))
    amounts = (3, 2, 1, 3, 3)
    verdict = await limiter.reserve("a", DAY, [Hold(of, much) for of, much in zip(all_of_alices, amounts, strict=True)])
    assert verdict.granted
    await looking.look()
    assert told(metrics) == {("alice", "rpm"): 3 / 5, ("alice", "concurrency"): 0.5, ("alice", "rpd"): 0}


async def test_what_is_not_known_is_not_told() -> None:
    """A control process that can't ask Redis has counted nothing itself: no project is at 0 for that."""
    limiter, metrics = Limiter(lambda: NOON // 1000), Metrics("1", [])
    looking = LimitsUsed(lambda: TENANTS, limiter, lambda: Days("UTC"), lambda: NOON, metrics)
    await looking.look()
    limiter.away = True
    await looking.look()
    assert told(metrics) == {}
    limiter.away = False
    await looking.look()
    assert len(told(metrics)) == 3
    limiter.refuses = True
    await looking.look()
    assert told(metrics) == {}
