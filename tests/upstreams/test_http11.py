"""The pool: how many connections, whose turn it is, how one is made, and what it refuses."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.tls import tls_context
from proxy.upstreams.transport import Request, Timeouts
from tests.upstreams.origin import BOTH_LOOPS, OK, Peer, Security, make_security, post, read_all, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]


async def keep_answering(peer: Peer) -> None:
    while True:
        await peer.answer(OK)


async def answer_with_number(peer: Peer) -> None:
    while True:
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % peer.number)


def target(path: bytes) -> Request:
    return Request(b"GET", path, [(b"host", b"h")], b"")


async def test_calls_beyond_the_bound_wait_and_are_served_in_turn(security: Security | None) -> None:
    served: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            served.append((await peer.head()).split(b" ")[1])
            await peer.say(OK)

    async with serving(script, security) as origin, origin.transport(max_connections=1) as transport:

        async def call(path: bytes) -> None:
            await read_all(await transport.send(target(path)))

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(call(b"/%d" % number))
                await asyncio.sleep(0)
            assert "4 waiting" in repr(transport)
        assert served == [b"/0", b"/1", b"/2", b"/3", b"/4"]
        assert origin.accepted == 1
        assert repr(transport).endswith("[0 busy, 1 idle, 0 waiting]>")


async def test_waiting_longer_than_allowed_is_a_timeout_with_nothing_sent() -> None:
    timeouts = Timeouts(pool=0.05)
    async with serving(keep_answering) as origin, origin.transport(max_connections=1, timeouts=timeouts) as transport:
        first = await transport.send(post())
        with pytest.raises(UpstreamFailed, match=r"\(pool\)") as caught:
            await transport.send(post())
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_TIMEOUT, Sent.NOTHING)
        await read_all(first)
        assert await read_all(await transport.send(post())) == b"ok"


async def test_a_call_that_stops_waiting_takes_no_connection_with_it() -> None:
    async with serving(keep_answering) as origin, origin.transport(max_connections=1) as transport:
        for leave_first in (False, True):
            first = await transport.send(post())
            leaver = asyncio.get_running_loop().create_task(transport.send(post()))
            stayer = asyncio.get_running_loop().create_task(transport.send(post()))
            await asyncio.sleep(0)
            if leave_first:
                leaver.cancel()
                first.close()
            else:  # its turn has come, and it leaves all the same
                first.close()
                leaver.cancel()
            assert await read_all(await stayer) == b"ok"
            with pytest.raises(asyncio.CancelledError):
                await leaver


async def test_failed_calls_give_their_place_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()

    async with serving(script) as origin, origin.transport(max_connections=1) as transport:
        for _ in range(3):
            with pytest.raises(UpstreamFailed, match="without an answer"):
                await transport.send(post())
        assert origin.accepted == 3


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nx:", b"HTTP/1.1 200 OK\r\nbad\r\n\r\n", b"SSH-2.0-x\r\n"])
async def test_an_answer_that_is_none_is_a_failure_of_a_request_that_went_up_whole(
    answer: bytes, security: Security | None
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK)
        await peer.answer(answer)
        peer.close()

    async with serving(script, security) as origin, origin.transport() as transport:
        await read_all(await transport.send(post()))
        with pytest.raises(UpstreamFailed) as caught:
            await transport.send(post())
        assert caught.value.sent is Sent.WHOLE
        assert origin.accepted == 1  # not sent again, though the connection had been kept


async def test_what_the_body_raises_is_raised_and_drops_the_connection(security: Security | None) -> None:
    gone = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"1"
        raise LookupError("the client has gone")

    async def script(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    async with serving(script, security) as origin, origin.transport() as transport:
        with pytest.raises(LookupError):
            await transport.send(post(pieces(), 9))
        await gone.wait()


@pytest.mark.parametrize("body", ["small", "large", "pieces"])
async def test_cancelling_a_call_drops_its_connection(body: str, security: Security | None) -> None:
    come, gone = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.Event().wait()

    async def script(peer: Peer) -> None:
        await peer.head()
        come.set()
        while "1 busy" in repr(transport):
            await asyncio.sleep(0)
        gone.set()

    bodies = {"small": (b"{}", 2), "large": (bytes(32 << 20), 32 << 20), "pieces": (pieces(), 9)}
    async with serving(script, security) as origin, origin.transport() as transport, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(transport.send(post(*bodies[body])))
        await come.wait()
        call.cancel()
        await gone.wait()


async def test_closing_before_the_end_drops_the_connection_and_reading_on_is_an_error(
    security: Security | None,
) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await peer.gone()
        gone.set()

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        reading = asyncio.get_running_loop().create_task(response.read())
        await asyncio.sleep(0)
        response.close()
        response.close()
        await gone.wait()
        with pytest.raises(RuntimeError, match="closed"):
            await reading
        with pytest.raises(RuntimeError, match="closed"):
            await response.read()
        assert "0 busy" in repr(transport)


async def test_the_connection_used_last_is_used_first() -> None:
    async with serving(answer_with_number) as origin, origin.transport() as transport:
        responses = [await transport.send(post()) for _ in range(3)]
        for response in (responses[0], responses[2], responses[1]):
            await read_all(response)
        again = [await transport.send(post()) for _ in range(3)]
        assert [await read_all(response) for response in again] == [b"2", b"3", b"1"]
        assert origin.accepted == 3


async def test_no_more_idle_connections_are_kept_than_allowed(security: Security | None) -> None:
    async with serving(keep_answering, security) as origin, origin.transport(max_idle=2) as transport:
        responses = [await transport.send(post()) for _ in range(4)]
        for response in responses:
            await read_all(response)
        while "0 busy" not in repr(transport):
            await asyncio.sleep(0)
        assert "2 idle" in repr(transport)


async def test_a_refused_connection_is_unreachable_with_nothing_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    transport = Http11Transport(f"http://127.0.0.1:{port}", max_connections=1, timeouts=Timeouts(pool=0.1))
    for _ in range(2):
        with pytest.raises(UpstreamFailed, match=r"connection refused \(connect\)") as caught:
            await transport.send(post())
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.NOTHING)
    await transport.aclose()


async def test_a_handshake_that_does_not_come_is_unreachable_when_its_time_is_over(tls_security: Security) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serving(script) as origin:
        url = origin.url.replace("http", "https")
        transport = Http11Transport(url, ssl_context=tls_security.client, timeouts=Timeouts(connect=0.1))
        with pytest.raises(UpstreamFailed, match=r"no connection within 0.1 s \(connect\)") as caught:
            await transport.send(post())
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.NOTHING)
        await transport.aclose()


async def test_the_handshake_asks_for_http_1_1(tmp_path: Path) -> None:
    security = make_security(tmp_path)
    names: list[str | None] = []
    security.server.sni_callback = lambda _object, name, _context: names.append(name)
    protocols: list[str | None] = []

    async def script(peer: Peer) -> None:
        tls: ssl.SSLObject = peer.writer.get_extra_info("ssl_object")
        protocols.append(tls.selected_alpn_protocol())
        await keep_answering(peer)

    context = tls_context(cafile=str(tmp_path / "localhost.pem"))
    async with serving(script, security) as origin, origin.transport(ssl_context=context) as transport:
        assert await read_all(await transport.send(post())) == b"ok"
    assert (names, protocols) == (["localhost"], ["http/1.1"])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_closing_the_transport_ends_calls_in_flight_and_refuses_further_ones(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        await peer.gone()

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        assert await response.read() == b"ab"
        await transport.aclose()
        with pytest.raises(UpstreamFailed, match="in the middle"):
            await response.read()
        response.close()
        with pytest.raises(UpstreamFailed, match="closed") as caught:
            await transport.send(post())
        assert caught.value.sent is Sent.NOTHING
        assert repr(transport).endswith("[0 busy, 0 idle, 0 waiting]>")


async def test_a_request_that_cannot_be_sent_takes_no_connection() -> None:
    async with serving(keep_answering) as origin, origin.transport(max_connections=1) as transport:
        with pytest.raises(ValueError, match="x-key"):
            await transport.send(post(b"{}", 2, (b"x-key", b"a\r\nb: c")))
        assert await read_all(await transport.send(post())) == b"ok"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080",
        "ftp://localhost",
        "https://",
        "http://localhost:99999",
        "https://key:s3cret@localhost",
        "http://" + "a" * 64,
    ],
)
async def test_a_base_url_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message differs, what it must not hold doesn't
        Http11Transport(url)
    assert "s3cret" not in str(caught.value)


async def test_the_repr_says_where_it_goes_and_how_busy_it_is() -> None:
    transport = Http11Transport("https://generativelanguage.googleapis.com/v1beta?key=s3cret")
    assert repr(transport) == "<Http11Transport generativelanguage.googleapis.com:443 [0 busy, 0 idle, 0 waiting]>"
    assert Http11Transport("http://[::1]:8080").port == 8080
