"""An upstream that keeps every byte it is sent, by connection, and reads them with h11."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h11

from tests.scripted import Received

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

    def requests(self) -> list[Received]:
        """All that came whole, by connection; a last one that was broken off is left out.

        Raises h11.RemoteProtocolError where the bytes are not one valid request after another.
        """
        return [request for wire in list(self.wires) for request in requests_in(bytes(wire))]


@contextmanager
def recorder(reply: Reply, *, forgets: bool = False) -> Iterator[Recorder]:
    """A running one, a thread a connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        recording = Recorder(reply, forgets, f"http://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=_accept, args=(listener, recording), daemon=True).start()
        try:
            yield recording
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def requests_in(wire: bytes) -> list[Received]:
    """The requests that a connection's bytes are."""
    reading = Reading()
    return list(reading.feed(wire))


class Reading:
    """Reads one connection's requests as they come."""

    def __init__(self) -> None:
        self._parser = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()

    def feed(self, data: bytes) -> Iterator[Received]:
        parser = self._parser
        parser.receive_data(data)
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                self._request = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert self._request is not None
                request = self._request
                yield Received(request.method, request.target, list(request.headers), bytes(self._body))
                parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                parser.send(h11.EndOfMessage())
                parser.start_next_cycle()
            else:
                return


def _accept(listener: socket.socket, recording: Recorder) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = bytearray()
        recording.wires.append(wire)
        threading.Thread(target=_converse, args=(connection, recording, wire), daemon=True).start()


def _converse(connection: socket.socket, recording: Recorder, wire: bytearray) -> None:
    reading = Reading()
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(1 << 18):
            if not recording.forgets:
                wire += data
            try:
                for request in reading.feed(data):
                    recording.reply(request, connection)
            except h11.RemoteProtocolError as error:
                recording.errors.append(str(error))
                return
