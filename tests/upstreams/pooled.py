"""A pool of servers on real sockets, each of which follows its script; and what attempts ask of a call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from proxy.errors import Sent
from proxy.gateway.intake import ClientGone
from proxy.gemini import calls
from proxy.telemetry.metrics import Metrics
from proxy.upstreams.attempts import Answer, Attempts
from proxy.upstreams.health import Health, Why
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import Timeouts
from proxy.upstreams.upstream import Upstream
from tests.upstreams.origin import Origin, Peer, serving
from tests.upstreams.steady import MODEL, Steady

Part = Callable[[Peer], Awaitable[None]]
FREE, METERED = (
    calls.parse("POST", f"/v1beta/models/{MODEL}:{verb}".encode(), b"") for verb in ("countTokens", "generateContent")
)


def error(status: int, message: str = "No.", *details: dict[str, Any]) -> bytes:
    body = json.dumps({"error": {"code": status, "message": message, "details": details}}).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def out_of_quota(delay: str) -> bytes:
    return error(429, delay, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})


BAD_KEY = error(400, "API key not valid. Please pass a valid API key.", {"reason": "API_KEY_INVALID"})


def says(data: bytes) -> Part:
    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(data)

    return script


async def hangs_up(peer: Peer) -> None:
    """Takes the request whole and goes."""
    await peer.request()
    peer.cut()


async def hangs_up_early(peer: Peer) -> None:
    """Goes in the middle of the request."""
    await peer.reader.read(1)
    peer.cut()


async def stands_still(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


class Body:
    """Content that is counted, and that comes in pieces where it is said to."""

    def __init__(self, content: bytes, *, pieces: bool = False) -> None:
        self._content = content
        self._pieces = pieces
        self.length = len(content)

    @property
    def content(self) -> bytes | AsyncIterator[bytes]:
        return self._in_pieces() if self._pieces else self._content

    async def _in_pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, self.length, 50_000):
            yield self._content[start : start + 50_000]


class Ledger:
    """The scales: what was told of each attempt. `room` is what the upstreams' own quotas leave.

    The client leaves before an attempt at `ends_at` begins, or, if `gone`, while the connection for one is made.
    """

    def __init__(self, room: dict[str, int] | None = None, ends_at: str = "", *, gone: bool = False) -> None:
        self.told: list[tuple[str, str]] = []
        self.went_up = 0
        self.milliseconds: list[int] = []
        self._room = room or {}
        self._ends_at = ends_at
        self._gone = gone

    async def begin(self, upstream: str) -> int | None:
        if upstream == self._ends_at:
            raise ClientGone
        return self._room.get(upstream)

    def theirs(self, at: float) -> None:
        pass

    def ours(self, at: float) -> None:
        pass

    def goes_up(self) -> None:
        if self._gone:
            raise ClientGone
        self.went_up += 1

    def refused(self, attempt: dict[str, Any]) -> None:
        self._tell("refused", attempt)

    def failed(self, attempt: dict[str, Any], sent: Sent) -> None:
        self._tell(f"failed {sent.name}", attempt)

    def answered(self, attempt: dict[str, Any]) -> None:
        self._tell("answered", attempt)

    def _tell(self, what: str, attempt: dict[str, Any]) -> None:
        assert list(attempt) == ["upstream", "outcome", "ms"]
        self.told.append((what, f"{attempt['upstream']} {attempt['outcome']}"))
        self.milliseconds.append(attempt["ms"])


class Stand:
    """Upstreams in the order in which they are asked, each a real server that follows its script, or nothing at all."""

    def __init__(self) -> None:
        self.steady = Steady()
        self.health: Health = self.steady.health()
        self.metrics = Metrics("1", [])
        self.attempts = Attempts(self.health, self.metrics, lambda: self.steady.now)
        self.origins: dict[str, Origin] = {}
        self.requests: list[tuple[str, bytes, bytes]] = []
        """Upstream, head and body of each request that came whole."""
        self.upstreams: list[Upstream] = []
        self._around = AsyncExitStack()

    async def __aenter__(self) -> Stand:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._around.aclose()

    async def add(self, script: Part | None, timeouts: Timeouts | None = None) -> None:
        """The next upstream: a, b, c … None: nobody listens there."""
        name = "abcdefghijkl"[len(self.upstreams)]

        async def listened(peer: Peer) -> None:
            asked = peer.request

            async def request() -> tuple[bytes, bytes]:
                head, body = await asked()
                self.requests.append((name, head, body))
                return head, body

            peer.request = request  # type: ignore[method-assign]
            assert script is not None
            await script(peer)

        url = "http://127.0.0.1:1"
        if script is not None:
            self.origins[name] = origin = await self._around.enter_async_context(serving(listened))
            url = origin.url
        transport = Http11Transport(url, timeouts=timeouts)
        self._around.push_async_callback(transport.aclose)
        self.upstreams.append(
            Upstream(name, url, "x-goog-api-key", f"key-of-{name}", transport, priority=len(self.upstreams))
        )

    async def send(self, scales: Ledger | None = None, call: calls.Call = METERED, body: Body | None = None) -> Answer:
        selection = Pool(self.upstreams, self.health).select(MODEL, "alice", counted_as=call.counted_as)
        answer = await self.attempts.send(selection, call, [(b"x-a", b"1")], body or Body(b"{}"), scales or Ledger())
        answer.close()
        return answer

    @property
    def asked(self) -> list[str]:
        return [name for name, _, _ in self.requests]

    def why(self, name: str) -> Why | None:
        outage = self.health.outage(name, MODEL)
        return outage.why if outage else None


async def standing(*scripts: Part | None) -> Stand:
    stand = Stand()
    for script in scripts:
        await stand.add(script)
    return stand
