"""An upstream that plays a script: keeps each request as it came, answers with the bytes that it was given."""

from __future__ import annotations

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
    connections: int = 0


def says(raw: bytes) -> Answer:
    return lambda connection: connection.sendall(raw)


@contextmanager
def scripted(answer: Answer = lambda _: None) -> Iterator[Scripted]:
    """A running scripted upstream, a thread a connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        script = Scripted(answer, f"http://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=_accept, args=(listener, script), daemon=True).start()
        try:
            yield script
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, script: Scripted) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        script.connections += 1
        threading.Thread(target=_converse, args=(connection, script), daemon=True).start()


def _converse(connection: socket.socket, script: Scripted) -> None:
    with connection:
        try:
            while (request := _read(connection)) is not None:
                script.received.append(request)
                script.answer(connection)
        except OSError:
            return


def _read(connection: socket.socket) -> Received | None:
    """The next request, or None where the peer closed first."""
    parser = h11.Connection(h11.SERVER)
    request, body = None, bytearray()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = connection.recv(65536)
            if not data:
                return None
            parser.receive_data(data)
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return Received(request.method, request.target, list(request.headers), bytes(body))
        else:
            return None
