"""Upstreams that do as they are told and keep their own accounts; many pools of them in one process, one a project."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from proxy.billing.records import UsageRecord
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from tests.journeys.watching import DEADLINE_S, TEXT, body, connect, until
from tests.scripted import Reading
from tests.stand import Weighbridge

RESET = struct.pack("ii", 1, 0)
KEY = "AIzaSyTHE_KEY_OF_THE_OPERATOR"
RETRY = "type.googleapis.com/google.rpc.RetryInfo"


def error(status: int, message: str, *details: Mapping[str, object]) -> bytes:
    """A whole response, as Google writes its errors."""
    said = {"code": status, "message": message, "status": "X", "details": list(details)}
    return response(status, json.dumps({"error": said}, indent=2).encode())


def response(status: int, content: bytes, kind: str = "application/json; charset=UTF-8", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def quota(delay: str) -> bytes:
    """429 as of a minute's quota."""
    violation = {"quotaMetric": "m", "quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}
    return error(
        429,
        f"You exceeded your current quota.\nPlease retry in {delay}.",
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": RETRY, "retryDelay": delay},
    )


OVERLOADED = error(503, "The model is overloaded. Please try again later.")
BAD_KEY = error(
    400,
    "API key not valid. Please pass a valid API key.",
    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"},
)


class Asked(NamedTuple):
    """A request that came whole: when, by the monotonic clock, and what of."""

    at: float
    target: str
    content: bytes
    credential: str

    @property
    def prompt(self) -> str:
        return str(json.loads(self.content)["contents"][0]["parts"][0]["text"])


class Upstream:
    """Answers with content, or with what it is told to say. `billed` are the response ids of the content it began."""

    def __init__(
        self, name: str, says: bytes = b"", tls: ssl.SSLContext | None = None, listener: socket.socket | None = None
    ) -> None:
        """`listener` is one of another machine (tests/namespaces.py)."""
        self.name = name
        self.says = says
        self.asked: list[Asked] = []
        self.billed: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        """Not set: it holds its answers back."""
        self.cuts = False
        """It takes requests whole, and resets the connection then."""
        self.hangs_up = False
        """It closes the connection after each answer, in order."""
        self.base_url = ""
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=512)

    @contextmanager
    def listening(self) -> Iterator[None]:
        host, port = self._listener.getsockname()
        self.base_url = f"https://localhost:{port}" if self._tls else f"http://{host}:{port}"
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield
        finally:
            self.answers.set()
            self.die()

    def die(self) -> None:
        """As a killed process: nobody listens, and what was connected is reset."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    # Wakes its thread, which closes it. After ssl's own shutdown it would read TLS as it came.
                    socket.socket.shutdown(connection, socket.SHUT_RD)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        reading = Reading()
        with contextlib.suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                with self._lock:
                    self._connections.add(connection)
                while data := connection.recv(1 << 18):
                    for request in reading.feed(data):
                        fields = dict(request.headers)
                        asked = Asked(
                            time.monotonic(),
                            request.target.decode(),
                            request.body,
                            fields.get(b"x-goog-api-key", b"").decode(),
                        )
                        self.asked.append(asked)
                        self._answer(connection, asked)

    def _answer(self, connection: socket.socket, asked: Asked) -> None:
        self.answers.wait(DEADLINE_S)
        if self.cuts:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
            return
        connection.sendall(self.says or self._content(asked))
        if self.hangs_up:
            connection.shutdown(socket.SHUT_RDWR)

    def _content(self, asked: Asked) -> bytes:
        if asked.target.endswith(":countTokens"):
            return response(200, b'{"totalTokens": 3}')
        with self._lock:
            self.billed.append(f"{self.name}-{len(self.billed)}")
            id_ = self.billed[-1]
        usage = {"promptTokenCount": 4, "candidatesTokenCount": 6, "totalTokenCount": 10}
        candidate = {"content": {"parts": [{"text": "Yes."}], "role": "model"}, "finishReason": "STOP"}
        return response(
            200, json.dumps({"candidates": [candidate], "usageMetadata": usage, "responseId": id_}).encode()
        )


class Pool:
    """One project and its upstreams, as a caller and as the operator see them."""

    def __init__(self, project: str, upstreams: Sequence[Upstream]) -> None:
        self.project = project
        self.upstreams = upstreams
        self.stand: Weighbridge
        self.key = ""
        self.client: httpx2.Client

    def settings(self, more: Mapping[str, Mapping[str, object]]) -> Iterator[dict[str, object]]:
        """A table of weighbridge.toml for each; `more` by the upstream's name."""
        for at, upstream in enumerate(self.upstreams):
            name = f"{self.project}-{upstream.name}"
            ours = {"name": name, "base_url": upstream.base_url, "projects": [self.project], "priority": at}
            yield {**ours, **more.get(upstream.name, {})}

    def ask(self, prompt: str = "hi", path: str = f"{TEXT}generateContent") -> httpx2.Response:
        headers = {"x-goog-api-key": self.key}
        return self.client.post(self.stand.base_url + path, json=body(prompt), headers=headers)

    def ask_many(self, prompts: Sequence[str], at_once: int = 8, path: str = f"{TEXT}generateContent") -> list[int]:
        """The statuses, in the order of the prompts."""
        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(lambda prompt: self.ask(prompt, path).status_code, prompts))

    def counts(self) -> list[int]:
        """How often each was asked."""
        return [len(upstream.asked) for upstream in self.upstreams]

    def records(self) -> list[UsageRecord]:
        """This project's part of the ledger."""
        return [record for record in self.stand.records() if record.project == self.project]

    def attempts(self) -> list[list[str]]:
        """Each record's attempts, as "a rate_limited"."""
        cut = len(self.project) + 1
        return [
            [f"{attempt['upstream'][cut:]} {attempt['outcome']}" for attempt in record.attempts or []]
            for record in self.records()
        ]

    def billed(self) -> list[tuple[str, str | None]]:
        """What stands in the ledger, by upstream and response id; the upstreams' `accounts` are to be the same."""
        records = [record for record in self.records() if record.outcome == "ok"]
        return sorted((record.upstream[len(self.project) + 1 :], record.response_id) for record in records)

    def accounts(self) -> list[tuple[str, str | None]]:
        return sorted((upstream.name, id_) for upstream in self.upstreams for id_ in upstream.billed)

    def logged(self, event: str, lines: int = 1) -> list[dict[str, Any]]:
        """The lines of the log, as soon as there are so many: a thread writes them."""
        return until(lambda: found if len(found := self.log(event)) >= lines else [], f"{lines} lines of {event}")

    def log(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log about one of these upstreams."""
        lines = [json.loads(line) for line in self.stand.log().splitlines() if f'"{event}"' in line]
        return [line for line in lines if line.get("upstream", "").startswith(f"{self.project}-")]


@contextmanager
def pools(
    folder: Path, *made: Pool, more: Mapping[str, Mapping[str, Mapping[str, object]]] | None = None
) -> Iterator[Weighbridge]:
    """One Weighbridge for them all. `more` are settings by project and upstream."""
    with ExitStack() as around:
        client = around.enter_context(httpx2.Client(timeout=DEADLINE_S, trust_env=False))
        tables: list[Mapping[str, object]] = []
        for pool in made:
            for upstream in pool.upstreams:
                around.enter_context(upstream.listening())
            tables += pool.settings((more or {}).get(pool.project, {}))
        stand = Weighbridge(folder, "", {"upstreams": tables}, upstream_key=KEY)
        around.callback(stand.close)
        database, now = open_database(stand.storage), time.time_ns() // 1000
        for pool in made:
            projects.create(database, pool.project, now, actor="test")
            _, key = keys.create(database, pool.project, "test", now, secrets.randbelow, actor="test")
            pool.stand, pool.key, pool.client = stand, key, client
        stand.start()
        yield stand


@contextmanager
def calling(pool: Pool) -> Iterator[None]:
    """A client that has sent its request; in the end it leaves."""
    head = f"POST {TEXT}generateContent HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: {pool.key}\r\nContent-Length: 2\r\n\r\n"
    with connect(pool.stand.base_url) as caller:
        caller.sendall(head.encode() + b"{}")
        yield
