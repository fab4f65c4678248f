"""Limits in this process's memory: the embedded default, and what stands in while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal

from proxy.limits.algorithm import LEASE_MS, History, State
from proxy.limits.interface import Counter, Hold, Over, Spent, Taken, Verdict
from proxy.limits.money import Spending

RENEWED_EVERY_S = LEASE_MS / 1000 / 4


class MemoryLimiter:
    """A Limiter whose store is this process. All that one knows is gone with it: `history` brings back what counts."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        history: History = lambda counter, day, now_ms: {},
        spent: Iterable[Spending] = (),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`now_ms` is the store's clock: best one that nobody sets. `spent` is all that was, before this process."""
        self._now_ms = now_ms
        self._sleep = sleep
        self.state = State(history, spent)

    async def reserve(self, lease_id: str, day: str, holds: Sequence[Hold]) -> Verdict:
        return self.state.reserve(self._now_ms(), lease_id, day, holds)

    def over(self, day: str, holds: Sequence[Hold]) -> tuple[Over, ...]:
        return tuple(over for over in self.state.over(self._now_ms(), day, holds) if not over.counter.shadow)

    def settle(self, lease_id: str, actual: Mapping[str, int], spent: Spent | None = None) -> None:
        self.state.settle(self._now_ms(), lease_id, actual, spent)

    def cancel(self, lease_id: str) -> None:
        self.state.cancel(self._now_ms(), lease_id)

    @property
    def counted_in(self) -> Literal["memory"]:
        return "memory"

    async def used(self, day: str, counters: Sequence[Counter]) -> list[Taken]:
        now_ms = self._now_ms()
        return [self.state.taken(now_ms, day, counter) for counter in counters]

    async def watch(self) -> None:
        while True:
            await self._sleep(RENEWED_EVERY_S)
            self.state.renew(self._now_ms(), tuple(self.state.leases))
            for _ in self.state.sweep(self._now_ms):
                await asyncio.sleep(0)

    async def close(self) -> None:
        pass
