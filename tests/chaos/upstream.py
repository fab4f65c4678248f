"""The upstream: the emulator, what breaks beneath its HTTP, and the account of every call that came up to it."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from proxy.emulator.account import Account, Entry
from proxy.emulator.app import create_app
from tests.chaos.calls import Call
from tests.chaos.plan import Calls
from tests.journeys.raw import reset
from tests.redis_servers import free_port
from tests.servers import _server

_NUMBER = re.compile(r"call (\d+) ")


@dataclass
class Served:
    """What the upstream did with a call. Times are those of a clock that nobody sets."""

    call: Call
    arrived: float
    times: int = 1
    status: int = 0
    whole: bool = False
    """Every byte of its response was handed over."""
    entry: Entry | None = None
    """The emulator's own: what it reckons to be paid for it."""
    passed: bytearray = field(default_factory=bytearray)
    """What was sent of a body that didn't come to its end."""
    cut: bool = False
    ended: bool = False


@dataclass
class Gate:
    """Where a call waits upstream until its client has left."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


class Books(Account):
    """The emulator's account, by the number of the call that stands in the prompt."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.of: dict[int, Entry] = {}

    def add(self, entry: Entry) -> Entry:
        found = _NUMBER.search(entry["prompt"])
        kept = super().add(entry | {"prompt": entry["prompt"].partition(" xxx")[0]})
        if found:
            self.of[int(found[1])] = kept
        return kept


class Upstream:
    """An ASGI application with its server, which may be taken away and brought back."""

    def __init__(self, calls: Calls, on_arrival: Callable[[], object]) -> None:
        self.books = Books(calls.count)
        self.served: dict[int, Served] = {}
        self.gates: dict[int, Gate] = {}
        self.away = True
        self.outages: list[tuple[float, float]] = []
        self.open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        """Of each project and each key: calls at once."""
        self._calls = calls
        self._on_arrival = on_arrival
        self._emulator = create_app(account=self.books, requests_kept=1)
        self._port = free_port()
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def up(self) -> None:
        self.away = False
        door = socket.create_server(("127.0.0.1", self._port), backlog=2048)
        self._server = _server(self)
        self._task = asyncio.get_running_loop().create_task(self._server._serve([door]))
        if self.outages and not self.outages[-1][1]:
            self.outages[-1] = self.outages[-1][0], time.monotonic()

    async def down(self) -> None:
        """As if its process died: what is under way is reset, new connections are refused."""
        assert self._server is not None
        assert self._task is not None
        self.away = True
        self.outages.append((time.monotonic(), 0.0))
        for served in self.served.values():
            if not served.ended:
                served.cut = True
                self._end(served)
        for protocol in list(self._server.server_state.connections):
            cycle = getattr(protocol, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                reset(protocol.transport)
            else:
                protocol.transport.close()
        self._server.should_exit = self._server.force_exit = True
        await self._task

    def forsaken(self) -> None:
        """The process that called is dead: none of its calls is open any more."""
        for served in self.served.values():
            self._end(served)

    def connections(self) -> int:
        assert self._server is not None
        return len(self._server.server_state.connections)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = next(int(value) for name, value in scope["headers"] if name == b"x-call")
        call = self._calls.by_number[number]
        if not call.metered:
            return await self._emulator(scope, receive, send)
        if number in self.served:
            self.served[number].times += 1
            return await self._emulator(scope, receive, send)
        served = self.served[number] = Served(call, time.monotonic())
        self._begin(served)
        try:
            await self._serve(served, scope, receive, send)
        finally:
            self._end(served)
            served.entry = self.books.of.get(number)
            if served.whole:
                served.passed.clear()

    async def _serve(self, served: Served, scope: Scope, receive: Receive, send: Send) -> None:
        call = served.call
        if self.away:  # it was still in the queue
            return await self._break(served, receive, send)
        if gate := self.gates.get(call.number):
            gate.arrived.set()
            await gate.left.wait()
        if call.breaks in ("unread", "unanswered"):
            return await self._break(served, receive, send, wait_for_body=call.breaks == "unanswered")

        length = -1

        async def sending(message: Message) -> None:
            nonlocal length
            if served.cut:
                return
            if message["type"] == "http.response.start":
                served.status = message["status"]
                length = next((int(value) for name, value in message["headers"] if name == b"content-length"), -1)
            elif message.get("body") and call.breaks == "midway" and served.passed and not served.whole:
                return await self._break(served, receive, send)
            else:
                served.passed += message.get("body", b"")
                if not message.get("more_body", False) or len(served.passed) == length:
                    served.whole = True
                    self._end(served)  # before its last byte leaves, on which others may be let in
            await send(message)

        await self._emulator(scope, receive, sending)

    async def _break(self, served: Served, receive: Receive, send: Any, *, wait_for_body: bool = False) -> None:
        """Resets the connection, and returns when that has happened."""
        while wait_for_body and (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        served.cut = True
        self._end(served)
        reset(send.__self__.transport)
        while (await receive())["type"] != "http.disconnect":
            pass

    def _begin(self, served: Served) -> None:
        for name in (served.call.project, served.call.key):
            self.open[name] += 1
            self.most_open[name] = max(self.most_open[name], self.open[name])
        self._on_arrival()

    def _end(self, served: Served) -> None:
        if not served.ended:
            served.ended = True
            for name in (served.call.project, served.call.key):
                self.open[name] -= 1
