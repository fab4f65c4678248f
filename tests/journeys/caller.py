"""A client that keeps one connection, says what it likes on it, and reads responses strictly, one after the other."""

from __future__ import annotations

import socket
from typing import NamedTuple

import h11

from tests.journeys.watching import connect


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    keeps: bool
    """Another request may follow on this connection."""


class Broken(Exception):
    """The connection ended before a response was complete, or what came is no response."""


class Caller:
    """One connection to a gateway door."""

    def __init__(self, base_url: str) -> None:
        self.socket = connect(base_url)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = bytearray()
        """All that came for the response that was read last, head and all."""
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Sends; that the server may have ended the connection shows when its answer is read."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def read(self) -> Answer:
        """The next response. Raises Broken."""
        judge = h11.Connection(h11.CLIENT)
        judge.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        judge.send(h11.EndOfMessage())
        self.raw = bytearray()
        head, body = None, bytearray()
        data = self._rest
        while True:
            try:
                data = data or self.socket.recv(1 << 18)
                self.raw += data
                judge.receive_data(data)
                while (event := judge.next_event()) is not h11.NEED_DATA:
                    if isinstance(event, h11.Response):
                        head = event
                    elif isinstance(event, h11.Data):
                        body += event.data
                    elif isinstance(event, h11.EndOfMessage):
                        assert head is not None
                        self._rest = judge.trailing_data[0]
                        keeps = judge.their_state is h11.DONE
                        return Answer(head.status_code, dict(head.headers), bytes(body), keeps)
                    elif isinstance(event, h11.ConnectionClosed):
                        raise Broken("closed")
                data = b""
            except (h11.RemoteProtocolError, ConnectionError) as error:
                raise Broken(str(error)) from error

    def close(self) -> None:
        self.socket.close()
