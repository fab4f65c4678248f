"""A response as its bytes come: heads of interim responses passed over, then the head, then the body. No I/O."""

from __future__ import annotations

from proxy.gemini.headers import Headers
from proxy.upstreams.framing import Body
from proxy.upstreams.heads import MAX_HEAD, HeadError, parse_response_head

MAX_INTERIM = 16
"""Interim (1xx) responses that are passed over before the final one."""

_START = b"HTTP/1."


class Incoming:
    """The response to one request of this method. Bytes in any cuts give the same response."""

    __slots__ = ("_body", "_head", "_interim", "_method", "_start", "broken", "headers", "keep_alive", "status")

    def __init__(self, method: bytes) -> None:
        self.status = 0
        """0 until the final head has come."""
        self.headers: Headers = []
        self.keep_alive = False
        self.broken = ""
        """Why it is no valid response, or not a whole one; else empty."""
        self._method = method
        self._head = b""
        self._start = 0
        self._interim = 0
        self._body: Body | None = None

    @property
    def complete(self) -> bool:
        """Nothing more belongs to it."""
        return self._body is not None and self._body.complete

    @property
    def reusable(self) -> bool:
        """It is complete, and another may follow it on its connection."""
        return self.keep_alive and self._body is not None and self._body.complete and not self._body.excess

    def feed(self, data: memoryview) -> bytes:
        """A copy of the body's bytes that stand in `data`, which may be reused at once."""
        if self.broken:
            return b""
        if self._body is None:
            try:
                data = self._feed_head(data)
            except HeadError as error:
                self.broken = str(error)
                return b""
        if self._body is None or not data:
            return b""
        piece = self._body.feed(data)
        self.broken = self._body.broken
        return piece

    def end(self) -> None:
        """The peer closed cleanly: the response is complete or broken now."""
        if self._body is None:
            self.broken = "it ended before its head" if self._head else "there was none"
        else:
            self._body.end()
            self.broken = self._body.broken

    def _feed_head(self, data: memoryview) -> memoryview:
        """Returns what follows the head, if the head ends in these bytes."""
        held = len(self._head)
        head = self._head + data[: MAX_HEAD - held]
        while (end := head.find(b"\r\n\r\n", max(self._start, held - 3)) + 4) > 3:
            parsed = parse_response_head(head[self._start : end], self._method)
            if parsed.status >= 200:
                self.status, self.headers, self._body, self.keep_alive = parsed
                self._head = b""
                return data[end - held :]
            self._pass_over(parsed.status)
            self._start = end
        self._look_at_the_part(head, max(self._start, held))
        self._head = head
        return data[:0]

    def _look_at_the_part(self, head: bytes, new: int) -> None:
        """Refuses at once what can't become a head any more, as far as that is plain: its end may never come.

        `new` is where that begins which hasn't been looked at before.
        """
        if len(head) == MAX_HEAD:
            raise HeadError(f"its head is longer than {MAX_HEAD} bytes")
        if not _START.startswith(head[self._start : self._start + len(_START)]):
            raise HeadError("it is not HTTP/1.1")
        if head.count(b"\n", new) != head.count(b"\r\n", max(self._start, new - 1)):
            raise HeadError("a line of its head does not end in CR LF")

    def _pass_over(self, status: int) -> None:
        self._interim += 1
        if status == 101:
            raise HeadError("it switches protocols")
        if self._interim > MAX_INTERIM:
            raise HeadError(f"more than {MAX_INTERIM} interim responses came before it")
