"""What a client sends is parsed in slices, so many in one turn of the loop: nobody's bytes hold up others' calls.

The parser calls back for each piece of a body, however small, and for each field. A read of the socket may hold 43,000
chunks of one byte; in one go they would take the loop for 40 ms.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from proxy.gateway.cycle import Cycle

READ_AHEAD = 256_000
"""Bytes of a request body that wait for the app before reading pauses; one read of the event loop."""
SLICE = 8 * 1024
"""Bytes that are fed to the parser without another look at what they cost."""
SLICE_LINES = 4
"""Line breaks behind those up to which a slice goes on: a body in large chunks is parsed as it comes."""
STEPS = 512
"""Steps after which parsing goes on in the loop's next turn. A slice, a piece of a body and a trailer field are one."""
HEAD_STEPS = STEPS // 2
"""The steps that a request's head is."""


class SlicedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but for what is done with the bytes that come.

    But for slices, steps need a line break each: so one turn takes no more of them than STEPS and those of a slice,
    SLICE / 4; and once again, where it comes to the end of what has come and the socket is read anew.
    """

    cycle: Cycle  # type: ignore[assignment]
    """The request read last."""
    discarding: bool
    """What comes from now on is dropped."""
    in_head: bool
    body_due: int
    """Bytes of the request's body still to come under its content-length; else 0 or less."""
    steps: int
    """Taken in this turn. Whoever is called by the parser counts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.discarding = self.in_head = False
        self.body_due = self.steps = 0
        self.waiting = b""  # what has come and isn't parsed yet; reading is paused meanwhile

    @abstractmethod
    def parse(self, data: bytes | memoryview) -> None:
        """Feeds the parser. What can't be read is refused, and the rest is discarded."""

    @abstractmethod
    def expect_more(self) -> None:
        """Sets the deadline for what the client owes now."""

    @abstractmethod
    def sated(self) -> bool:
        """What has been read is enough for now."""

    def data_received(self, data: bytes) -> None:
        if self.waiting:  # TLS may have had some more when reading was paused
            self.waiting += data
        elif len(data) > max(SLICE, self.body_due):
            self.waiting = data
            self._parse_waiting()
        elif not self.discarding:
            self.parse(data)
            self.expect_more()

    def _parse_waiting(self) -> None:
        data, self.waiting = self.waiting, b""
        view = memoryview(data)
        start = self.steps = 0
        while start < len(data) and not self.discarding and (self.steps < STEPS or len(data) - start <= self.body_due):
            end = self._slice_end(data, start)
            self.parse(view[start:end])
            start = end
        if start < len(data) and not self.discarding:
            self.waiting = data[start:]
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_waiting)
        elif self.discarding or not self.sated():
            self.read_on()
        self.expect_more()

    def _slice_end(self, data: bytes, start: int) -> int:
        """A head is a slice by itself, so that what follows it is one piece of its body."""
        self.steps += 1
        if self.in_head or self.cycle is None or not self.cycle.more_body:
            head_end = data.find(b"\r\n\r\n", start, start + SLICE)
            if head_end >= 0:
                return head_end + 4
        end = start + max(SLICE, self.body_due)
        for _ in range(SLICE_LINES):
            if end >= len(data):
                break
            end = data.find(b"\n", end) + 1 or len(data)
        return end

    def read_on(self) -> None:
        """Reads from the socket again, once what has been read is parsed."""
        if not (self.waiting or self.transport.is_closing()):
            self.flow.resume_reading()
