"""How much is used of limits, looked at every few seconds, for `limit_used_ratio`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.billing.periods import Days
from proxy.control.again import again_and_again
from proxy.control.counted import Counted, Tenants
from proxy.errors import ProxyRefused
from proxy.limits.interface import Limiter
from proxy.telemetry.metrics import Metrics

LOOKS_EVERY_S = 5.0


class LimitsUsed:
    """The limits of all who have a key, but for budgets, and for shadow limits: those refuse nobody."""

    def __init__(
        self,
        tenants: Callable[[], Tenants],
        limiter: Limiter,
        days: Callable[[], Days],
        now_us: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        """`tenants` gives the same object until one of them changes."""
        self._counted = Counted(tenants, limiter, lambda limit: not (limit.per or limit.shadow))
        self._limiter = limiter
        self._days = days
        self._now_us = now_us
        self._metrics = metrics

    async def watch(self) -> None:
        """Never ends by itself, whatever fails."""
        await again_and_again(self.look, lambda: asyncio.sleep(LOOKS_EVERY_S), "limits aren't looked at for metrics")

    async def look(self) -> None:
        """One look. Where counts are known to each process alone, or to nobody, nothing is told."""
        ratios: dict[tuple[str, str], float] = {}
        if self._limiter.counted_in != "memory while redis is away":
            try:
                async for some in self._counted.taken(self._days().name(self._now_us())):
                    for counter, (used, _) in some:
                        key = counter.project, counter.kind
                        ratio = used / counter.value if counter.value else float(used > 0)
                        ratios[key] = max(ratio, ratios.get(key, 0.0))
            except ProxyRefused:
                ratios.clear()
        # In a thread: a thousand projects have some thousand series.
        await asyncio.to_thread(self._metrics.limits_used, ratios)
