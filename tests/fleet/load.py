"""The load: calls of all kinds at a steady pace, and on until all that is to happen has happened."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from starlette.types import Receive, Scope, Send

from tests.chaos.callers import Callers, Seen, Tally
from tests.chaos.calls import Call
from tests.chaos.plan import Calls
from tests.chaos.upstream import Served, Upstream

HELD = 8
"""Calls that wait upstream when a process is killed: some of them are that one's."""
KEPT_S = 86_400
MONEY = "paid"
"""The project that has a budget (tests/chaos/tenants.py)."""


@dataclass
class Lasting(Calls):
    """At least `count` calls, and more until there are `enough`. Nobody leaves, and no connection breaks by itself:
    whatever else fails is the fleet's doing."""

    enough: bool = False

    def __iter__(self) -> Iterator[Call]:
        for number in itertools.count(1):
            if self.enough and number > self.count:
                return
            yield self._draw(number)

    def _draw(self, number: int) -> Call:
        call = replace(super()._draw(number), leaves="", way="", breaks="")
        self.by_number[number] = replace(call, body=b"")
        if call.metered:
            self.by_print[call.print] = self.by_number[number]
        return call


@dataclass
class Steady(Callers):
    """So many calls a second between them, or fewer where those take longer. Each is one of a connection of its own."""

    a_second: float = 60.0
    _next: float = 0.0

    async def _turn(self) -> None:
        now = time.monotonic()
        self._next = max(self._next + 1 / self.a_second, now)
        await asyncio.sleep(self._next - now)

    async def _call(self, call: Call, connection: object, seen: Seen) -> None:
        await super()._call(call, connection, seen)  # type: ignore[arg-type]
        seen.complete = seen.complete and bool(seen.request_id)  # what haproxy says itself isn't an answer
        if call.project == MONEY:
            self.tally.happened(f"{MONEY}: {seen.refused or seen.status}")
            self.tally.happened(MONEY)


class Origin(Upstream):
    """The upstream, which may hold back what arrives: so that a process dies in the midst of calls."""

    def __init__(self, calls: Lasting, tally: Tally) -> None:
        super().__init__(calls, lambda: tally.happened("arrived"))
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self._tally, self._waiting = tally, 0

    async def up(self) -> None:
        """It closes no idle connection: a call that is just being sent on one would be broken off by it, and not by
        the fleet."""
        await super().up()
        assert self._server is not None
        self._server.config.timeout_keep_alive = KEPT_S

    async def hold(self) -> None:
        """Answers nobody until `release`; returns when enough wait."""
        self._goes_on.clear()
        await self._tally.until(lambda: self._waiting >= HELD)

    def release(self) -> None:
        self._goes_on.set()

    async def _serve(self, served: Served, scope: Scope, receive: Receive, send: Send) -> None:
        self._waiting += 1
        self._tally.happened("waits")
        try:
            await self._goes_on.wait()
        finally:
            self._waiting -= 1
        await super()._serve(served, scope, receive, send)
