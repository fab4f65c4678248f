"""What is spent of each budget now: what thresholds are held against."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from proxy.billing.periods import Days
from proxy.control.thresholds import BudgetUse
from proxy.limits.interface import Counter, Limiter, counters, period
from proxy.tenants.keys import Tenant

_AT_ONCE = 100
"""Projects that the limiter is asked about together."""

_LATE_US = 3600 * 1_000_000
"""How long a period that is over is looked at: calls that began in it end later, and their cost is its."""

Tenants = Mapping[bytes, Tenant]


class Budgets:
    """All budgets of whoever has a key, those in shadow too."""

    def __init__(
        self, tenants: Callable[[], Tenants], limiter: Limiter, days: Callable[[], Days], now_us: Callable[[], int]
    ) -> None:
        """`tenants` gives the same object until one of them changes."""
        self._tenants = tenants
        self._limiter = limiter
        self._days = days
        self._now_us = now_us
        self._known_of: Tenants | None = None
        self._known: list[list[Counter]] = []

    async def used(self) -> list[BudgetUse]:
        """Of the periods in force, and of those that were an hour ago. What is held for calls in flight is left out.

        Raises ProxyRefused LIMITER_UNAVAILABLE.
        """
        tenants = self._tenants()
        if tenants is not self._known_of:
            # In a thread: there may be 100,000 keys.
            self._known, self._known_of = await asyncio.to_thread(_by_project, tenants.values()), tenants
        days, now = self._days(), self._now_us()
        day, former = days.name(now), days.name(now - _LATE_US)
        found = await self._of_day(day, self._known)
        if former != day:
            over = [[one for one in of if period(one.per, former) != period(one.per, day)] for of in self._known]
            found += [use._replace(over=True) for use in await self._of_day(former, [of for of in over if of])]
        return found

    async def _of_day(self, day: str, known: Sequence[Sequence[Counter]]) -> list[BudgetUse]:
        found: list[BudgetUse] = []
        for begin in range(0, len(known), _AT_ONCE):
            some = known[begin : begin + _AT_ONCE]
            told = await asyncio.gather(*(self._limiter.used(day, of) for of in some))
            for of, taken in zip(some, told, strict=True):
                found += [_use(counter, day, used - held) for counter, (used, held) in zip(of, taken, strict=True)]
        return found


def _use(counter: Counter, day: str, spent: int) -> BudgetUse:
    of = period(counter.per, day)
    return BudgetUse(counter.project, counter.key_id or None, counter.value, of, spent, counter.model, counter.shadow)


def _by_project(tenants: Iterable[Tenant]) -> list[list[Counter]]:
    """Each budget once, however many keys a project has."""
    found: dict[str, dict[str, Counter]] = {}
    for project, key_id, _, policy in tenants:
        of = [tuple(limit for limit in limits if limit.per) for limits in (policy.project_limits, policy.key_limits)]
        for counter in counters(project, key_id, *of) if any(of) else ():
            found.setdefault(project, {})[counter.name] = counter
    return [list(budgets.values()) for budgets in found.values()]
