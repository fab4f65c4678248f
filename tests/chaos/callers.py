"""The callers: many at once, over raw connections; some leave, all go on when the server is there again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.chaos.calls import Call
from tests.chaos.plan import Calls
from tests.chaos.upstream import Gate, Upstream
from tests.journeys import raw

AT_ONCE = 24
PATIENCE_S = 120
BACK_OFF_S = 0.3
"""Before the next call of a caller who was told that nobody can be served now: else all calls were soon used up."""


@dataclass
class Seen:
    """What its client saw of a call."""

    sent: float
    """When it began to be sent, by a clock that nobody sets."""
    process: int
    """Which of the servers, one after another, it was sent to."""
    ended: float = 0.0
    """When all had come of the response that came."""
    status: int = 0
    complete: bool = False
    request_id: str = ""
    refused: str = ""
    left: bool = False


class Tally(Counter[str]):
    """Counts what happens, and wakes who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[Callable[[], bool], asyncio.Event]] = []

    def happened(self, what: str) -> None:
        self[what] += 1
        for enough, event in self._waiting:
            if enough():
                event.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        waiting = enough, asyncio.Event()
        self._waiting.append(waiting)
        if not enough():
            await waiting[1].wait()
        self._waiting.remove(waiting)

    async def more(self, what: str, times: int) -> None:
        goal = self[what] + times
        await self.until(lambda: self[what] >= goal)


@dataclass
class Callers:
    """Makes all calls, and keeps what their clients saw."""

    calls: Calls
    secrets: Mapping[str, str]
    upstream: Upstream
    tally: Tally
    base_url: str = ""
    process: int = 0
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear while there is no server to call."""
    seen: dict[int, Seen] = field(default_factory=dict)

    async def run(self) -> None:
        drawn = iter(self.calls)
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._caller(drawn))

    async def _caller(self, drawn: Iterator[Call]) -> None:
        for call in drawn:
            await self._turn()
            async with asyncio.timeout(PATIENCE_S):
                connection = await self._connect()
            seen = self.seen[call.number] = Seen(time.monotonic(), self.process)
            async with asyncio.timeout(PATIENCE_S):
                await self._call(call, connection, seen)
            seen.ended = time.monotonic()
            if seen.refused:
                self.tally.happened(f"refused: {seen.refused}")
                if seen.status >= 500:
                    await asyncio.sleep(BACK_OFF_S)
            self.tally.happened("made")

    async def _turn(self) -> None:
        """Waits until it is time for another call: it always is."""

    async def _connect(self) -> raw.Caller:
        while True:
            await self.serving.wait()
            try:
                return await raw.call(self.base_url)
            except OSError:  # it has just ended
                await asyncio.sleep(0.02)

    async def _call(self, call: Call, connection: raw.Caller, seen: Seen) -> None:
        content = call.request(self.secrets[call.key])
        try:
            if call.leaves == "in the request":
                connection.send(content[: len(content) - call.length // 2 - 1])
                await self._leave(call, connection, seen)
            elif call.leaves == "unanswered":
                gate = self.upstream.gates[call.number] = Gate()
                connection.send(content)
                await _either(gate.arrived, connection.news)
                gate.left.set() if call.way == "half-close" else None
                await self._leave(call, connection, seen)
            else:
                connection.send(content)
                if call.leaves:
                    await connection.news.wait()
                    await self._leave(call, connection, seen)
                await connection.closed.wait()
        finally:
            if gate := self.upstream.gates.pop(call.number, None):
                gate.left.set()
            connection.transport.abort()
        self._understand(connection, seen)

    async def _leave(self, call: Call, connection: raw.Caller, seen: Seen) -> None:
        seen.left = True
        if not connection.closed.is_set():
            await connection.leave(call.way)

    def _understand(self, connection: raw.Caller, seen: Seen) -> None:
        answer = raw.judged(bytes(connection.came), reset=connection.reset)
        seen.status, seen.complete = answer.status, answer.complete
        seen.request_id = answer.headers.get("x-weighbridge-request-id", "")
        seen.refused = answer.headers.get("x-weighbridge-refused", "")


async def _either(*events: asyncio.Event) -> None:
    """Waits for one of them."""
    waiting = [asyncio.get_running_loop().create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
