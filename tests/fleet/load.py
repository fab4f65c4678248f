"""The load: calls of all kinds at a steady pace, and on until all that is to happen has happened."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.chaos.callers import Callers
from tests.chaos.calls import Call
from tests.chaos.plan import Calls

OURS = ("LIMITER_UNAVAILABLE", "LEDGER_UNAVAILABLE", "STORE_UNAVAILABLE", "DRAINING")
"""Refusals of who can't serve anybody, or not this one."""


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
