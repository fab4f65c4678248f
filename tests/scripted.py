"""An upstream that plays a script: keeps each request as it came, answers with the bytes that it was given."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h11

Answer = Callable[[socket.socket], None]
"""Writes a response to the connection, as it likes. Return to wait for the next request; close the socket to end."""


@dataclass
class Received:
    """One request, read by h11: headers in order, names in lower case."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass
class Scripted:
    """`answer` is called for each request that came in whole; `received` holds those."""

    answer: Answer
    base_url: str = ""
    received: list[Received] = field(default_factory=list)

    def converse(self, connection: socket.socket) -> None:
        reading = Reading()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                for request in reading.feed(data):
                    self.received.append(request)
                    self.answer(connection)


def says(raw: bytes) -> Answer:
    return lambda connection: connection.sendall(raw)


@contextmanager
def scripted(answer: Answer = lambda _: None) -> Iterator[Scripted]:
    """A running scripted upstream."""
    script = Scripted(answer)
    with listening(script.converse) as script.base_url:
        yield script


@contextmanager
def listening(converse: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that gives each connection to `converse`, on a thread of its own; gives its base URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        threading.Thread(target=_accept, args=(listener, converse), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, converse: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=converse, args=(connection,), daemon=True).start()


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
