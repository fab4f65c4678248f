"""The caller's side of one call: what is sent down to it, and whether it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from proxy.config.addresses import Address, Network, client_address
from proxy.errors import Hint, Outcome, Refusal
from proxy.gemini import error_hints, hints, openai_errors, status
from proxy.gemini.calls import Call, Framing

if TYPE_CHECKING:
    from starlette.types import Scope, Send

    from proxy.billing.records import UsageRecord
    from proxy.gateway.cycle import Cycle
    from proxy.gemini.headers import Headers
    from proxy.tenants.keys import Tenant

REFUSED = "refused"
"""The outcome of a request that we answered ourselves with an error; the others are the ledger's words."""


class Client:
    """Who called: what it asks for, and whether it is still there. After `gone`, sending does nothing.

    `ours` and `theirs` mark whom its call waits for: us alone, or an upstream. Times are the clock's of `began`.
    """

    __slots__ = (
        "_connection",
        "_ours_since",
        "_outliving",
        "_send",
        "began",
        "framing",
        "hint",
        "key_name",
        "model",
        "operation",
        "overhead_s",
        "project",
        "records",
        "refusal",
        "request_id",
        "started",
        "status",
        "upstream",
    )

    def __init__(self, scope: Scope, send: Send, began: float) -> None:
        self._connection = cast("Cycle", scope["extensions"]["weighbridge"])
        self._send = send
        self._outliving: asyncio.TimerHandle | None = None
        self.request_id = self._connection.request_id
        self.began = began
        self.operation = "unknown"
        self.model = ""
        """That is used."""
        self.framing: Framing = "single"
        """What the call is answered with."""
        self.hint: Hint | None = None
        """What it is told beside the answer: the most useful that is known by now."""
        self.project = ""
        self.key_name = ""
        self.records: list[UsageRecord] = []
        """What was written down: a request of OpenAI's images may be several calls."""
        self.refusal: Refusal | None = None
        """What it was refused for, or its response broken off."""
        self.started = False
        self.status = 0
        self.overhead_s = 0.0
        """How long it has waited for us alone, but for what began at the last `ours`."""
        self._ours_since = began
        self.upstream = ""
        """Whose answer it got."""

    @property
    def streams(self) -> bool:
        """Every piece goes down as it comes; else the last one is held back until the record is durable."""
        return self.framing != "single"

    def ours(self, at: float) -> None:
        """From then on it waits for us: its request has come, an upstream has done all that it will."""
        self._ours_since = at

    def theirs(self, at: float) -> None:
        """From then on it waits for somebody else: the upstream that it goes to, or who reads its response."""
        self.overhead_s += at - self._ours_since

    def is_of(self, tenant: Tenant) -> None:
        """Who it is, is known."""
        self.project, self.key_name = tenant.project, tenant.key_name

    def asks(self, call: Call) -> None:
        """What it wants is known."""
        self.operation, self.model = call.operation.name, call.model
        self.framing = call.framing
        self.hint = call.hint

    def hears(self, refusal: Refusal) -> None:
        """It is to be refused: it is told what that calls for, if anything."""
        self.hint = error_hints.of_refusal(refusal, self.model) or self.hint

    @property
    def gone(self) -> bool:
        return self._connection.gone

    @property
    def told_of(self) -> bool:
        """The door has told already what became of it: its body couldn't be read."""
        return self._connection.told_of

    @property
    def outcome(self) -> str:
        """How it ended: as the ledger says, of several calls the first that didn't end well; else by what went down."""
        for record in self.records:
            if record.outcome != Outcome.OK:
                return str(record.outcome)
        if self.records:
            return Outcome.OK.value
        if self.refusal is not None:
            return REFUSED if self.status >= 400 else Outcome.TRUNCATED.value  # else its answer had begun
        if self.gone:
            return Outcome.CLIENT_GONE.value
        if self.status >= 400:
            return Outcome.UPSTREAM_ERROR.value
        return (Outcome.OK if self.status else Outcome.UNSETTLED).value

    def outlive(self, seconds: float) -> None:
        """Lets the current task run on for so long after the client has left; then it is cancelled."""
        task = asyncio.current_task()
        assert task is not None

        def left() -> None:
            self._outliving = task.get_loop().call_later(seconds, task.cancel)

        if self._connection.gone:
            left()
        else:
            self._connection.when_gone = left

    def stop_outliving(self) -> None:
        """The call is over: nothing is cancelled any more."""
        self._connection.when_gone = None
        if self._outliving is not None:
            self._outliving.cancel()

    async def start(self, status_code: int, headers: Headers) -> None:
        self.started = True
        self.status = status_code
        # A stream is framed by its terminator, which can be held back until the record is durable.
        whole = not self.streams or status_code >= 300
        ours = headers if whole else [field for field in headers if field[0] != b"content-length"]
        if self.hint is not None:
            ours = [*ours, hints.field(self.hint)]
        await self._send({"type": "http.response.start", "status": status_code, "headers": ours})

    async def send(self, piece: bytes | memoryview) -> None:
        """Sends a piece that something follows. Waits while the client reads slower than the upstream sends."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, last: bytes | memoryview = b"") -> None:
        """Sends the last piece and completes the framing: from here on the client may hold the response for whole."""
        await self._send({"type": "http.response.body", "body": last})

    async def answer(self, status_code: int, headers: Headers, body: bytes) -> None:
        """Answers all at once."""
        await self.start(status_code, headers)
        await self.end(body)

    def break_off(self) -> None:
        self._connection.break_off()

    async def refuse(self, refusal: Refusal, *, openai: bool = False) -> None:
        """Answers with an error of ours, in Google's shape or OpenAI's; where an answer has begun, that is broken off
        instead."""
        if self.started:
            self.break_off()
            return
        self.hears(refusal)
        body = openai_errors.refusal_body(refusal) if openai else status.refusal_body(refusal, self.framing)
        headers = [
            (b"content-type", b"application/json; charset=UTF-8"),
            (b"content-length", b"%d" % len(body)),
            (b"x-weighbridge-refused", refusal.reason.word.encode()),
        ]
        if (seconds := status.retry_after(refusal)) is not None:
            headers.append((b"retry-after", b"%d" % seconds))
        if openai and not openai_errors.helped_by_retrying(refusal):
            headers.append((b"x-should-retry", b"false"))
        await self.answer(refusal.http, headers, body)


def address(scope: Scope, trusted_proxies: Sequence[Network]) -> Address | None:
    """Where a call comes from; None where that can't be told."""
    forwarded_for = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    peer = scope["client"][0] if scope["client"] else None
    return client_address(peer, forwarded_for, trusted_proxies)
