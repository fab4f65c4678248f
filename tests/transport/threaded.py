"""A TLS server on a thread of its own, and what it may do to a connection."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator

from tests.upstreams.origin import OK

Serve = Callable[[socket.socket], None]
"""What a server does with a connection that it has accepted."""


def handshake(connection: socket.socket, context: ssl.SSLContext) -> tuple[bytes, bytes]:
    """A server's handshake up to its last flight, which is left to send: that, and what came behind the client's last.

    Where the handshake fails, the flight is the alert.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    while True:
        incoming.write(connection.recv(65536))
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            connection.sendall(outgoing.read())
            continue
        except ssl.SSLError:
            pass
        return outgoing.read(), incoming.read()


def answering(context: ssl.SSLContext, wire: bytes = OK) -> Serve:
    """Answers one request, and closes in order."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            if secure.recv(65536):
                secure.sendall(wire)
                read_to_the_end(secure)

    return serve


@contextlib.contextmanager
def threaded(serve: Serve) -> Iterator[int]:
    """A listening port whose connections are served one after another; what breaks there is the client's doing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, serve), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive(), "a connection was never closed"


def _accept(listener: socket.socket, serve: Serve) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            serve(connection)


def read_to_the_end(connection: socket.socket) -> bytes:
    """What else comes until the other side closes: closed with bytes unread, a socket resets the connection."""
    came = b""
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            came += data
    return came


def wait_until_acknowledged(connection: socket.socket) -> None:
    """Until the other side's kernel has all that was sent."""
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]:
        time.sleep(0.001)


def cork(connection: socket.socket) -> None:
    """From here on it sends nothing until it is closed, and the close goes in the same packet."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    """Closes in the way of a process that dies with a socket in its hands."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
