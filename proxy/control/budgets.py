"""What is spent of each budget now: what thresholds are held against."""

from __future__ import annotations

from collections.abc import Callable

from proxy.billing.periods import Days
from proxy.control.counted import Counted, Tenants
from proxy.control.thresholds import BudgetUse
from proxy.limits.interface import Counter, Limiter, period

_LATE_US = 3600 * 1_000_000
"""How long a period that is over is looked at: calls that began in it end later, and their cost is its."""


class Budgets:
    """All budgets of whoever has a key, those in shadow too."""

    def __init__(
        self, tenants: Callable[[], Tenants], limiter: Limiter, days: Callable[[], Days], now_us: Callable[[], int]
    ) -> None:
        """`tenants` gives the same object until one of them changes."""
        self._counted = Counted(tenants, limiter, lambda limit: bool(limit.per))
        self._days = days
        self._now_us = now_us

    async def used(self) -> list[BudgetUse]:
        """Of the periods in force, and of those that were an hour ago. What is held for calls in flight is left out.

        Raises ProxyRefused LIMITER_UNAVAILABLE.
        """
        days, now = self._days(), self._now_us()
        day, former = days.name(now), days.name(now - _LATE_US)
        found = await self._of_day(day, lambda counter: True)
        if former != day:
            over = await self._of_day(former, lambda one: period(one.per, former) != period(one.per, day))
            found += [use._replace(over=True) for use in over]
        return found

    async def _of_day(self, day: str, asked: Callable[[Counter], bool]) -> list[BudgetUse]:
        found: list[BudgetUse] = []
        async for some in self._counted.taken(day, asked):
            found += [_use(counter, day, used - held) for counter, (used, held) in some]
        return found


def _use(counter: Counter, day: str, spent: int) -> BudgetUse:
    of = period(counter.per, day)
    return BudgetUse(counter.project, counter.key_id or None, counter.value, of, spent, counter.model, counter.shadow)
