"""Several calls side by side over one client's connection, those that find no place waiting for one of the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from proxy.errors import RateLimited, Reason, Refusal
from proxy.gateway.intake import ClientGone

if TYPE_CHECKING:
    from proxy.gateway.cycle import Cycle

T = TypeVar("T")

TRIES = 3
"""How often one asks again that none of the others is in the way of: word of a place given back may be on its way."""
PAUSE_S = 1.0


class Seat:
    """One call's share of a connection: what `Client` needs of it."""

    def __init__(self, connection: Cycle) -> None:
        self._connection = connection
        self.request_id = connection.request_id
        self.when_gone: Callable[[], None] | None = None

    @property
    def gone(self) -> bool:
        return self._connection.gone

    def break_off(self) -> None:
        """Nothing goes down of one call by itself."""


class Seats:
    """The calls that share a connection: each is told when its client leaves."""

    def __init__(self, connection: Cycle) -> None:
        self._connection = connection
        self._seats: list[Seat] = []
        connection.when_gone = self._left

    def take(self) -> Seat:
        seat = Seat(self._connection)
        self._seats.append(seat)
        return seat

    def _left(self) -> None:
        for seat in self._seats:
            if seat.when_gone is not None:
                seat.when_gone()


class SideBySide(Generic[T]):
    """Does one thing several times at once, each time for a number from 0 on."""

    def __init__(
        self, one: Callable[[int], Awaitable[T]], ended: Callable[[int, T | Refusal], Awaitable[None]]
    ) -> None:
        """`one` may raise Refusal. `ended` is told what became of each, as they end."""
        self._one = one
        self._ended = ended
        self._running = 0
        self._served = False
        self._waiting: deque[int] = deque()

    async def run(self, times: int) -> None:
        """Returns when all have ended. Raises what `one` or `ended` raise beside refusals, in an ExceptionGroup."""
        async with asyncio.TaskGroup() as group:
            for number in range(times):
                self._start(group, number)

    def _start(self, group: asyncio.TaskGroup, number: int) -> None:
        self._running += 1
        group.create_task(self._do(group, number))

    async def _do(self, group: asyncio.TaskGroup, number: int) -> None:
        try:
            result = await self._result(number)
        except ClientGone:
            # Raised on, it would cancel the others: those have gone up, and are to be weighed to their end.
            return
        finally:
            self._running -= 1
        if result is None:
            self._waiting.append(number)
            return
        if self._waiting:
            self._start(group, self._waiting.popleft())
        await self._ended(number, result)

    async def _result(self, number: int) -> T | Refusal | None:
        """What became of one; None where another one's end must be waited for."""
        for tries in range(TRIES):
            try:
                result = await self._one(number)
            except Refusal as refusal:
                if not _passes(refusal):
                    return refusal
                if self._running > 1:
                    return None
                if not self._served or tries == TRIES - 1:
                    return refusal
                await asyncio.sleep(PAUSE_S)
            else:
                self._served = True
                return result
        raise AssertionError("the last try returns")


def _passes(refusal: Refusal) -> bool:
    """Whether it may be let in when another one of these has ended: only calls in flight were in its way."""
    if not isinstance(refusal, RateLimited):
        return False
    in_the_way = all(violation.metric == "weighbridge/concurrency" for violation in refusal.violations)
    return in_the_way or refusal.reason is Reason.BUDGET_HELD
