"""What thresholds are told of budgets: each once, in its period, what was spent and not what is held."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.billing.periods import Days
from proxy.config.limits import parse
from proxy.control.budgets import Budgets
from proxy.control.thresholds import BudgetUse, ratios
from proxy.limits.interface import Hold, Spent, counters
from proxy.limits.memory import MemoryLimiter
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy

NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000_000
USD = 10**9

pytestmark = pytest.mark.anyio


def tenant(key_id: str, project: str, of_project: tuple[str, ...], of_key: tuple[str, ...] = ()) -> Tenant:
    limits = [tuple(parse(text) for text in texts) for texts in (of_project, of_key)]
    return Tenant(project, key_id, "test", Policy(project_limits=limits[0], key_limits=limits[1]))


async def test_each_budget_is_told_once_with_what_was_spent() -> None:
    limiter = MemoryLimiter(lambda: NOON // 1000)
    of_alice = ("rpm=5", "usd=10,per=month", "usd=1,per=day,model=*-image,shadow")
    tenants = {
        b"1": tenant("key_1", "alice", of_alice, ("usd=5,per=total",)),
        b"2": tenant("key_2", "alice", of_alice),
        b"3": tenant("key_3", "bob", ("rpm=5",)),
    }
    budgets = Budgets(lambda: tenants, limiter, lambda: Days("UTC"), lambda: NOON)
    limiter.settle("", {}, Spent("alice", "key_1", "gemini-3-pro-image", "2026-11-21", 2 * USD))
    limiter.settle("", {}, Spent("alice", "key_2", "gemini-3.8-flash", "2026-11-20", USD))
    [month] = counters("alice", "", (parse("usd=10,per=month"),), ())
    await limiter.reserve("in flight", "2026-11-21", [Hold(month, 4 * USD)])
    assert set(await budgets.used()) == {
        BudgetUse("alice", None, 10 * USD, "2026-11", 3 * USD),
        BudgetUse("alice", None, USD, "2026-11-21", 2 * USD, "*-image", True),
        BudgetUse("alice", "key_1", 5 * USD, "total", 2 * USD),
    }


async def test_what_a_day_ended_with_is_told_after_midnight() -> None:
    """Of a call that began before it and ended after, too; and of a total there is one."""
    now = int(datetime(2026, 12, 1, 0, 30, tzinfo=UTC).timestamp()) * 1_000_000
    limiter = MemoryLimiter(lambda: now // 1000)
    tenants = {b"1": tenant("key_1", "alice", ("usd=1,per=day", "usd=5,per=month", "usd=9,per=total"))}
    budgets = Budgets(lambda: tenants, limiter, lambda: Days("UTC"), lambda: now)
    limiter.settle("", {}, Spent("alice", "key_1", "gemini-3.8-flash", "2026-11-30", USD))
    told = await budgets.used()
    assert set(told) == {
        BudgetUse("alice", None, USD, "2026-12-01", 0),
        BudgetUse("alice", None, USD, "2026-11-30", USD, over=True),
        BudgetUse("alice", None, 5 * USD, "2026-12", 0),
        BudgetUse("alice", None, 5 * USD, "2026-11", USD, over=True),
        BudgetUse("alice", None, 9 * USD, "total", USD),
    }
    assert len(told) == 5
    assert ratios(told) == {"alice": 1 / 9}
    now += 3_600_000_000
    assert not any(use.over for use in await budgets.used())


async def test_a_budget_that_is_changed_is_told_as_it_is_then() -> None:
    served = {b"1": tenant("key_1", "alice", ("usd=10,per=total",))}
    budgets = Budgets(lambda: served, MemoryLimiter(lambda: 0), lambda: Days("UTC"), lambda: NOON)
    assert [use.budget for use in await budgets.used()] == [10 * USD]
    served = {b"1": tenant("key_1", "alice", ("usd=20,per=total",))}
    assert [use.budget for use in await budgets.used()] == [20 * USD]
    served = {}
    assert await budgets.used() == []
