"""Servers one after another on the same files, each killed at another step of a call; what each finds then."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.emulator.app import create_app
from tests.disk import Disk
from tests.journeys.numbered import BASE, Whole, account, compare, numbered
from tests.journeys.stopping import DOWN_WHOLE, UP_WHOLE, Left, Step
from tests.journeys.watching import DEADLINE_S, TEXT, connect, open_leases
from tests.servers import running
from tests.stand import Weighbridge

KINDS = {
    "single": ("generateContent", "[[text-bytes=300000]]"),
    "stream": ("streamGenerateContent?alt=sse", "[[chunks=6]] [[chunk-delay=0.01]]"),
    "left": ("streamGenerateContent?alt=sse", "[[chunks=6]] [[chunk-delay=0.05]]"),
}
"""A call's verb, and what makes its response come in several pieces. The client of the last leaves before it comes."""


class Gate:
    """An emulator that, when it is told so, lets a call wait at its door once it has the whole request's head."""

    def __init__(self) -> None:
        self._app: ASGIApp = create_app()
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and not self.open.is_set():
            self.asked.set()
            await asyncio.to_thread(self.open.wait)
        await self._app(scope, receive, send)

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.asked.clear()
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()


class Chain:
    """One server after another on the same files, each killed in a call of its own at another step.

    Each start finds what the one before left, and may change nothing of what stood in the ledger then.
    """

    def __init__(
        self, folder: Path, kind: str, around: ExitStack, environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir()
        self._gate = Gate()
        upstream = around.enter_context(running(self._gate))
        self._stand = Weighbridge(folder, upstream, environment=environment or {})
        self._key = self._stand.key()
        self._servers = around.enter_context(
            self._stand.popen("tests.journeys.stopping", "serve", stdin=subprocess.PIPE)
        )
        around.callback(self._kill)
        self._pid = 0
        self._verb, self._directives = KINDS[kind]
        self._leaves = kind == "left"
        self._outcomes = {
            Left.NOTHING: {None},
            Left.HANDED: {None, "unsettled"},
            Left.LEASE: {"unsettled"},
            Left.RECORD: {"client_gone" if self._leaves else "ok"},
        }
        self._expected: list[Set[str | None]] = []
        self._whole: dict[int, Whole] = {}

    def run(self, steps: Mapping[str, Step]) -> int:
        """Returns how many kills there were."""
        for name, step in steps.items():
            self._start(name, opens=not step.at_start)
            if not step.at_start:
                assert not self._call(name) or step.whole, f"received whole, though killed at: {name}"
                self._expected.append(self._outcomes[step.left])
            assert self._ended() == -signal.SIGKILL, name
        self._end()
        return len(steps)

    def run_into(self, disk: Disk, writes: Iterable[int]) -> int:
        """Kills before each of the `writes` of a call, until it has no more, and around its fsync; how many these were.

        What was written whole is recovered, whether or not it was fsynced.
        """
        kills = 0
        for call, when, number in (
            ("sync", "before", 1),
            ("sync", "after", 1),
            *(("write", "before", number) for number in writes),
        ):
            self._start()
            disk.fault(call, "0.db-wal", when, number)
            whole = self._call()
            if whole:
                self._kill()
            assert self._ended() == -signal.SIGKILL
            self._expected.append({"ok"} if call == "sync" or whole else {None, "unsettled"})
            if whole:
                break
            kills += 1
        disk.faultless()
        self._end()
        return kills

    def _start(self, name: str = "", *, opens: bool = True) -> None:
        """Starts the next server, and looks at what it found."""
        assert self._servers.stdin is not None
        self._servers.stdin.write(f"{name}\n")
        self._servers.stdin.flush()
        self._pid = int(self._told())
        if opens:
            self._stand.serves(self._told())
            self._told()  # its second line
            self._holds()

    def _told(self) -> str:
        assert self._servers.stdout is not None
        return self._servers.stdout.readline()

    def _kill(self) -> None:
        """Kills the server that runs, if one does."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _ended(self) -> int:
        told = self._told()
        assert told.startswith("ended "), told
        self._pid = 0
        return int(told.split()[1])

    def _end(self) -> None:
        """However often it is started, and without any trap: the next finds the same."""
        self._start()
        self._kill()
        self._ended()
        self._stand.start()
        self._holds()
        self._stand.stop(signal.SIGKILL)

    def _call(self, name: str = "") -> bool:
        """Makes the next call, and kills where the server doesn't. Whether its response was received whole."""
        if name == UP_WHOLE:
            with self._gate.closed(), ThreadPoolExecutor() as threads:
                calling = threads.submit(self._call)
                assert self._gate.asked.wait(DEADLINE_S)
                self._kill()
                return calling.result()
        number = len(self._expected) + 1
        content, headers = numbered(number, self._directives), {"x-goog-api-key": self._key}
        whole = False
        if self._leaves:
            self._leave(content)
        else:
            with suppress(httpx2.TransportError):
                answer = httpx2.post(f"{self._stand.base_url}{TEXT}{self._verb}", content=content, headers=headers)
                self._whole[number] = Whole(answer.headers["x-weighbridge-request-id"], 0)
                whole = True
        if name == DOWN_WHOLE:
            self._kill()
        return whole

    def _leave(self, content: bytes) -> None:
        """Sends a call, and leaves when it has gone up."""
        head = f"POST {TEXT}{self._verb} HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: {self._key}\r\n"
        with self._gate.closed(), connect(self._stand.base_url) as connection:
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            assert self._gate.asked.wait(DEADLINE_S)

    def _holds(self) -> None:
        """The ledger has of each call what it is to have."""
        records = self._stand.records()
        compare(records, account(self._stand.upstream_url), self._whole)
        found = {record.request_bytes - BASE: record.outcome for record in records}
        for number, outcomes in enumerate(self._expected, 1):
            assert found.get(number) in outcomes, f"call {number} of {self._verb}: {found.get(number)}, not {outcomes}"
        assert open_leases(self._stand.data_dir) == 0
