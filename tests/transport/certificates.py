"""Certificates, good and bad, and a TLS server on a thread of its own that shows them."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Serve = Callable[[socket.socket], None]
"""What a server does with a connection that it has accepted."""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DAY = datetime.timedelta(days=1)


class Certificate(NamedTuple):
    """A certificate, its key, and the file that holds both."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    path: Path


def make_certificate(
    folder: Path,
    name: str = "localhost",
    *,
    issuer: Certificate | None = None,
    valid_from: float = -1,
    valid_until: float = 1,
) -> Certificate:
    """For a host name or an address, valid between these days from now; signed by the issuer or by itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid_from * DAY)
        .not_valid_after(now + valid_until * DAY)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    signed = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / f"{signed.serial_number}.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    return Certificate(signed, key, path)


def server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


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
