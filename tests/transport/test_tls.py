"""TLS that goes wrong, in the handshake and behind it: nothing goes up to whom isn't trusted, no end is made up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport, tls_context
from proxy.upstreams.transport import Timeouts
from tests.certificates import Certificate, make_certificate, server_context
from tests.transport.counts import back_to, counts
from tests.transport.threaded import answering, close, cork, handshake, read_to_the_end, reset, threaded
from tests.upstreams.origin import BOTH_LOOPS, post, read_all

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]
Serve = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """An authority that the tests' clients trust; its own certificate is for localhost."""
    return make_certificate(tmp_path_factory.mktemp("trusted"), "authority.example")


@pytest.fixture
def context(trusted: Certificate, tmp_path: Path) -> ssl.SSLContext:
    """A server's, with a certificate that there is nothing to say against."""
    return server_context(make_certificate(tmp_path, issuer=trusted))


@contextlib.asynccontextmanager
async def upstream(trusted: Certificate, serve: Serve, host: str = "localhost") -> AsyncIterator[Http11Transport]:
    """A transport to such a server; afterwards no socket and no task of it is left."""
    context, timeouts = tls_context(cafile=str(trusted.path)), Timeouts(connect=10, first_byte=10, idle=10)
    with threaded(serve) as port:
        url, before = f"https://{host}:{port}", counts()
        async with contextlib.aclosing(Http11Transport(url, ssl_context=context, timeouts=timeouts)) as transport:
            yield transport
        assert await back_to(before) == before


async def refusal(transport: Http11Transport) -> str:
    """Why no request goes up; its first byte was never even announced."""
    announced: list[bool] = []
    with pytest.raises(UpstreamFailed) as caught:
        await transport.send(post(), lambda: announced.append(True))
    assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.NOTHING)
    assert not announced
    assert caught.value.message.startswith("The upstream could not be reached: ")
    assert "base_url, certificates" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "other.example"}, "Hostname mismatch"),
        ({"name": "sub.localhost"}, "Hostname mismatch"),
        ({"valid_from": -9, "valid_until": -1}, "certificate has expired"),
        ({"valid_from": 1, "valid_until": 9}, "certificate is not yet valid"),
    ],
    ids=["wrong-name", "other-name", "expired", "of-tomorrow"],
)
async def test_a_bad_certificate_of_a_trusted_authority_is_refused(
    trusted: Certificate, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    shown = make_certificate(tmp_path, issuer=trusted, **options)
    async with upstream(trusted, answering(server_context(shown))) as transport:
        assert f"its certificate was refused, {words}" in await refusal(transport)


@pytest.mark.parametrize("signed_by", ["itself", "another authority"])
async def test_a_certificate_that_nobody_trusted_has_signed_is_refused(
    trusted: Certificate, tmp_path: Path, signed_by: str
) -> None:
    stranger = make_certificate(tmp_path, "stranger.example") if signed_by == "another authority" else None
    shown = make_certificate(tmp_path, issuer=stranger)
    words = "unable to get local issuer certificate" if stranger else "self-signed certificate"
    async with upstream(trusted, answering(server_context(shown))) as transport:
        assert f"its certificate was refused, {words}" in await refusal(transport)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_the_handshake_names_the_host_and_an_address_not_at_all(
    trusted: Certificate, tmp_path: Path, name: str
) -> None:
    context, named = server_context(make_certificate(tmp_path, name, issuer=trusted)), []
    context.sni_callback = lambda _object, server_name, _context: named.append(server_name)
    async with upstream(trusted, answering(context), name) as transport:
        assert await read_all(await transport.send(post())) == b"ok"
    assert named == [None if name == "127.0.0.1" else name]


async def test_by_default_the_systems_authorities_are_trusted_and_no_others(context: ssl.SSLContext) -> None:
    with threaded(answering(context)) as port:
        before = counts()
        async with contextlib.aclosing(Http11Transport(f"https://localhost:{port}")) as transport:
            assert "its certificate was refused" in await refusal(transport)
        assert await back_to(before) == before


async def test_a_certificate_for_a_name_does_not_serve_its_address(trusted: Certificate, tmp_path: Path) -> None:
    shown = make_certificate(tmp_path, "localhost", issuer=trusted)
    async with upstream(trusted, answering(server_context(shown)), "127.0.0.1") as transport:
        assert "IP address mismatch" in await refusal(transport)


async def test_protocols_before_tls_1_2_are_refused(trusted: Certificate, context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with upstream(trusted, answering(context)) as transport:
        assert "the TLS handshake failed, TLSV1_ALERT_PROTOCOL_VERSION" in await refusal(transport)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("flight", "how"),
    [(0, close), (3, close), (100, close), (99_999, close), (0, reset), (3, reset), (100, reset)],
    ids=lambda value: getattr(value, "__name__", f"after-{value}"),
)
async def test_a_handshake_that_is_cut_is_unreachable_wherever_it_was_cut(
    trusted: Certificate, context: ssl.SSLContext, version: ssl.TLSVersion, how: Serve, flight: int
) -> None:
    """After the client's hello, in a record, in the server's flight, and behind it, where TLS 1.3 is done for us."""
    context.maximum_version = version

    def serve(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(connection.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
        cork(connection)
        connection.sendall(outgoing.read()[:flight])
        how(connection)

    async with upstream(trusted, serve) as transport:
        message = await refusal(transport)
        if how is close and flight < 99_999:
            assert "it closed the connection in the TLS handshake" in message


async def test_a_server_that_speaks_plain_http_is_unreachable(trusted: Certificate) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        read_to_the_end(connection)

    async with upstream(trusted, serve) as transport:
        assert "the TLS handshake failed, WRONG_VERSION_NUMBER" in await refusal(transport)


async def test_a_connection_closed_as_soon_as_it_stands_gets_no_request(
    trusted: Certificate, context: ssl.SSLContext
) -> None:
    """The close has come with the handshake's end: to write to it would make a call of what never was one."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the server has the last word of the handshake
    came: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        flight, _ = handshake(connection, context)
        cork(connection)
        connection.sendall(flight)
        connection.shutdown(socket.SHUT_WR)
        came.append(read_to_the_end(connection))

    async with upstream(trusted, serve) as transport:
        assert "closed as soon as it stood" in await refusal(transport)
    assert came == [b""]


async def test_a_certificate_asked_of_us_in_the_handshake_fails_it(
    trusted: Certificate, context: ssl.SSLContext
) -> None:
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, ssl.TLSVersion.TLSv1_2
    async with upstream(trusted, answering(context)) as transport:
        assert "the TLS handshake failed, SSLV3_ALERT_HANDSHAKE_FAILURE" in await refusal(transport)


async def test_a_certificate_asked_of_us_after_the_handshake_is_named_and_the_request_had_gone_up(
    trusted: Certificate, context: ssl.SSLContext
) -> None:
    """With TLS 1.3 our handshake is over, and the request written, before the server can object."""
    context.verify_mode, goes_up = ssl.CERT_REQUIRED, threading.Event()

    def serve(connection: socket.socket) -> None:
        alert, _ = handshake(connection, context)
        goes_up.wait(10)
        connection.sendall(alert)
        read_to_the_end(connection)

    async with upstream(trusted, serve) as transport:
        with pytest.raises(UpstreamFailed, match="TLSV13_ALERT_CERTIFICATE_REQUIRED") as caught:
            await transport.send(post(), goes_up.set)
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.WHOLE)


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize(
    ("wire", "read"),
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\ncontent-le", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    ],
    ids=["before-the-head", "head", "length", "chunks", "last-chunk", "until-close"],
)
async def test_an_end_without_close_notify_is_no_end_of_a_response(
    trusted: Certificate, context: ssl.SSLContext, wire: bytes, read: bytes | None, how: str
) -> None:
    """Anybody on the way can send a FIN or a RST; only the server can say that it has said all."""
    was_read = asyncio.Event()
    loop = asyncio.get_running_loop()

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as secure:
            secure.recv(65536)
            secure.sendall(wire)
            if how == "reset":
                if read is not None:
                    asyncio.run_coroutine_threadsafe(was_read.wait(), loop).result(10)
                reset(secure)
            else:
                socket.socket.shutdown(secure, socket.SHUT_WR)
                read_to_the_end(secure)

    async with upstream(trusted, serve) as transport:
        with pytest.raises(UpstreamFailed, match="closed the connection") as caught:
            await read_to_its_failure(transport, read, was_read)
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.WHOLE)
        assert ("in the middle" if read else "without an answer") in caught.value.message


async def read_to_its_failure(transport: Http11Transport, first: bytes | None, was_read: asyncio.Event) -> None:
    with contextlib.closing(await transport.send(post())) as response:
        assert await response.read() == first
        was_read.set()
        assert not response.complete
        try:
            await response.read()
        finally:
            assert not response.complete
