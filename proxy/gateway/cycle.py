"""One request and its response on a client's connection: what the app receives from and sends to.

An app finds its `Cycle` at scope["extensions"]["weighbridge"]: whether the client is there, and a way to break off.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from proxy.gateway import heads

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPResponseStartEvent, HTTPScope

    from proxy.errors import Refusal
    from proxy.gateway.server import GatewayProtocol

JOINED = 16 * 1024
"""Up to this size, copying a body piece into one write is cheaper than a vector of writes."""
PIECE = 16
"""Bytes that a waiting piece counts beside its own: without them, 256 KB in pieces of two bytes would take 6 MB."""


class Cycle:
    """Replaces uvicorn's RequestResponseCycle: same ASGI interface, own framing, and a break-off."""

    __slots__ = (
        "bodiless",
        "body_failure",
        "chunked",
        "connection",
        "disconnected",
        "due",
        "end_received",
        "flow",
        "gone",
        "head",
        "keep_alive",
        "more_body",
        "on_the_wire",
        "pieces",
        "request_id",
        "response_complete",
        "response_started",
        "scope",
        "told_of",
        "waiter",
        "waiting_bytes",
        "waiting_for_100_continue",
        "when_gone",
    )

    request_id: str
    """Stands in every response as x-weighbridge-request-id."""
    gone: bool
    """The client left, closed its sending half, left its response unread, or sent a body that can't be read."""
    told_of: bool
    """The door has refused it in the midst of its body, and has told of that."""
    when_gone: Callable[[], object] | None
    """Called once, on the loop, when that happens. Look at `gone` before setting it."""

    def __init__(
        self, connection: GatewayProtocol, scope: HTTPScope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self.connection = connection
        self.request_id = connection.new_request_id()
        self.scope = scope
        scope["extensions"] = {"weighbridge": self}  # type: ignore[dict-item]
        self.flow = connection.flow
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects_continue
        self.gone = False
        self.told_of = False
        self.when_gone = None
        self.disconnected = False  # nothing can be sent any more: the client is gone, or we broke off
        self.more_body = True
        self.pieces: list[bytes] = []
        self.waiting_bytes = 0
        self.end_received = False
        self.body_failure: Refusal | None = None
        self.waiter: Future[None] | None = None
        self.response_started = False
        self.response_complete = False
        self.on_the_wire = False
        self.head = b""  # held until the first body message, so that both go in one write
        self.bodiless = scope["method"] == "HEAD"
        self.chunked = False
        self.due: int | None = None  # bytes still to come under the response's content-length

    @property
    def until_close(self) -> bool:
        """The response has begun, and nothing but the connection's end will tell the client where it ends."""
        return self.on_the_wire and not self.chunked and self.due is None and not self.bodiless

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Runs the app, and makes up for one that ends without having answered."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            self.connection.logger.exception("The app failed on the request %s.", self.request_id)
        finally:
            if not self.response_complete and not self.disconnected:
                self._unanswered()
            self.scope = {}  # type: ignore[typeddict-item]  # it holds this object: a cycle for the collector

    def _unanswered(self) -> None:
        if self.on_the_wire:
            self.break_off()
        else:
            self.response_complete = True
            self.connection.end(heads.internal_error(self.request_id))

    def take(self, piece: bytes) -> None:
        """A piece of the request's body has come."""
        self.pieces.append(piece)
        self.waiting_bytes += len(piece) + PIECE
        self._wake()

    def take_end(self) -> None:
        """The request's body is complete."""
        self.more_body = False
        self._wake()

    def fail_body(self, refusal: Refusal) -> None:
        """No more of the body will be waited for."""
        self.body_failure = refusal
        self._wake()

    async def receive(self) -> ASGIReceiveEvent:
        """All of the body that has come since the last piece; after the end, waits for the client to leave or the
        response to end.

        Raises CallerErred REQUEST_TIMEOUT where the client sends no more of its body, for the app to answer.
        """
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            if self.more_body and not self.pieces and not self.response_started and not self.disconnected:
                self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.disconnected or self.response_complete or self.pieces):
            if self.body_failure is not None:
                raise self.body_failure
            if self.more_body:
                self.connection.read_body()
            elif not self.end_received:
                break
            self.waiter = self.connection.loop.create_future()
            await self.waiter
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        piece = b"".join(self.pieces)  # a body may come in chunks of one byte
        self.pieces.clear()
        self.waiting_bytes = 0
        more = self.more_body
        self.end_received = not more
        return {"type": "http.request", "body": piece, "more_body": more}

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def send(self, message: ASGISendEvent) -> None:
        """Sends; waits where the client reads slower than we do. Once the client is gone, it does nothing, silently.

        The head goes out with the first body message, an empty one if need be.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self.response_started = True
            self.head = self._make_head(message)
        elif message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"The app sent {message['type']} out of turn.")

    def _make_head(self, message: HTTPResponseStartEvent) -> bytes:
        """The framing is ours: of the app's own we take content-length, and `connection: close`."""
        code = message["status"]
        lines = [STATUS_LINE[code]]
        for name, value in message.get("headers", ()):
            if name == b"content-length":
                self.due = int(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
                continue
            elif name == b"transfer-encoding":
                continue
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"x-weighbridge-request-id: %b\r\n" % self.request_id.encode())
        self.bodiless = self.bodiless or code in (204, 304)
        if self.due is None and not self.bodiless and self.scope["http_version"] == "1.1":
            self.chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        # Whoever is answered before it has sent all may send none of the rest, or all of it: this can't be told apart.
        self.keep_alive = self.keep_alive and not self.more_body and not self.connection.ends_here()
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)

    def _send_body(self, body: bytes, more_body: bool) -> None:
        if self.bodiless:
            body = b""
        before, after = self.head, b""
        if self.chunked:
            if body:
                before += b"%x\r\n" % len(body)
                after = b"\r\n"
            if not more_body:
                after += b"0\r\n\r\n"
        elif self.due is not None and not self.bodiless:
            self.due -= len(body)
            if self.due < 0 or (self.due and not more_body):
                raise RuntimeError("The app's response is not as long as its content-length says.")
        self.head = b""
        self.on_the_wire = True
        if len(body) <= JOINED:
            if before or body or after:
                self.connection.transport.write(b"".join((before, body, after)))
        else:
            self.connection.transport.writelines([piece for piece in (before, body, after) if piece])
        if not more_body:
            self.response_complete = True
            self._wake()
            self.connection.on_response_complete()

    def break_off(self) -> None:
        """Ends the connection such that the client can't take the response for complete. After its end: does nothing.

        Under a content-length that means before its last byte: hold back a piece until the response may be complete.
        """
        if self.response_complete or self.disconnected:
            return
        self._disconnect()
        self.when_gone = None
        self.connection.break_off(reset=self.until_close)

    def leave(self) -> None:
        """The client is gone."""
        if self.response_complete or self.disconnected:
            return
        self.gone = True
        self._disconnect()
        then, self.when_gone = self.when_gone, None
        if then is not None:
            then()

    def _disconnect(self) -> None:
        self.disconnected = True
        self.head = b""
        self._wake()
        self.flow.resume_writing()
