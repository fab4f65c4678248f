"""An upstream that keeps every byte it is sent, by connection, and reads them with h11."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h11

from tests.scripted import Reading, Received, listening

Reply = Callable[[Received, socket.socket], None]
"""Answers a request as it likes. Return to read on; shut the socket down to end."""


@dataclass
class Recorder:
    """`wires` holds what each connection was sent, unless it `forgets` that; `errors`, what was no valid request."""

    reply: Reply
    forgets: bool = False
    base_url: str = ""
    wires: list[bytearray] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reading, wire = Reading(), bytearray()
        self.wires.append(wire)
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 18):
                if not self.forgets:
                    wire += data
                try:
                    for request in reading.feed(data):
                        self.reply(request, connection)
                except h11.RemoteProtocolError as error:
                    self.errors.append(str(error))
                    return

    def requests(self) -> list[Received]:
        """All that came whole, by connection; a last one that was broken off is left out.

        Raises h11.RemoteProtocolError where the bytes are not one valid request after another.
        """
        return [request for wire in list(self.wires) for request in requests_in(bytes(wire))]


@contextmanager
def recorder(reply: Reply, *, forgets: bool = False) -> Iterator[Recorder]:
    """A running one."""
    recording = Recorder(reply, forgets)
    with listening(recording.converse) as recording.base_url:
        yield recording


def requests_in(wire: bytes) -> list[Received]:
    """The requests that a connection's bytes are."""
    return list(Reading().feed(wire))
