"""A kept connection: used again where it may be, dropped and replaced where it has ended, whoever ended it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
import weakref

import pytest

from proxy.errors import UpstreamFailed
from proxy.upstreams.connection import RECEIVE_BUFFER, Connection
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.round_trip import RoundTrip
from proxy.upstreams.tls import TlsConnection
from proxy.upstreams.transport import Request
from tests.upstreams.origin import BOTH_LOOPS, OK, Peer, Security, post, read_all, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]


async def keep_answering(peer: Peer) -> None:
    while True:
        await peer.answer(OK)


async def test_calls_one_after_another_go_over_one_connection(security: Security | None) -> None:
    async with serving(keep_answering, security) as origin, origin.transport() as transport:
        for _ in range(5):
            assert await read_all(await transport.send(post())) == b"ok"
        assert origin.accepted == 1


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["connection-close", "http-1.0", "excess-after-length", "excess-after-chunks"],
)
async def test_a_connection_that_may_not_be_used_again_is_not(wire: bytes, security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(wire)
        await peer.gone()

    async with serving(script, security) as origin, origin.transport() as transport:
        for _ in range(2):
            assert await read_all(await transport.send(post())) == b"ok"
        assert origin.accepted == 2


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_connection_is_used_again_after_responses_without_a_body(method: bytes) -> None:
    heads = [b"HTTP/1.1 204 x\r\n\r\n", b"HTTP/1.1 304 x\r\ncontent-length: 9\r\n\r\n"]
    if method == b"HEAD":
        heads.append(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n")

    async def script(peer: Peer) -> None:
        for head in heads:
            await peer.answer(head)
        await peer.gone()

    async with serving(script) as origin, origin.transport() as transport:
        for _ in heads:
            assert await read_all(await transport.send(Request(method, b"/", [(b"host", b"h")], b""))) == b""
        assert origin.accepted == 1


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"])
async def test_an_idle_connection_whose_peer_closes_or_speaks_is_dropped(
    last_words: bytes, security: Security | None
) -> None:
    gone = asyncio.Event()
    speak = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer()
        await speak.wait()
        if last_words:
            await peer.say(last_words)
        else:
            peer.close()
        await peer.gone()
        gone.set()

    async with serving(script, security) as origin, origin.transport() as transport:
        await read_all(await transport.send(post()))
        assert "1 idle" in repr(transport)
        speak.set()
        await gone.wait()
        while "1 idle" in repr(transport):
            await asyncio.sleep(0)
        assert (await transport.send(post())).status == 200
        assert origin.accepted == 2


@pytest.mark.parametrize("reset", [False, True])
async def test_an_end_that_the_loop_has_not_seen_yet_is_seen_before_anything_is_written(reset: bool) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []
    answered, end, ended = threading.Event(), threading.Event(), threading.Event()

    def serve() -> None:
        for turn in range(2):
            sock, _ = listener.accept()
            with sock:
                received.append(sock.recv(65536))
                sock.sendall(OK)
                answered.set()
                if turn == 0:
                    end.wait()
                    if reset:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ended.set()

    thread = threading.Thread(target=serve)
    thread.start()
    transport = Http11Transport(f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        await read_all(await transport.send(post(b"first")))
        end.set()
        ended.wait()  # the loop stands still meanwhile, and can't be told
        assert "1 idle" in repr(transport)
        assert await read_all(await transport.send(post(b"second"))) == b"ok"
    finally:
        end.set()
        await transport.aclose()
        socket.create_connection(listener.getsockname()).close()  # if the second call didn't come
        thread.join()
        listener.close()
    assert [request.rpartition(b"\r\n")[2] for request in received] == [b"first", b"second"]


async def test_a_connection_idle_for_too_long_is_not_used_though_the_loop_was_late_to_drop_it() -> None:
    async with serving(keep_answering) as origin, origin.transport(idle_seconds=0.02) as transport:
        await read_all(await transport.send(post()))
        time.sleep(0.05)  # the loop stands still
        assert (await transport.send(post())).status == 200
        assert origin.accepted == 2


async def test_an_idle_connection_is_dropped_when_its_time_is_over(security: Security | None) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.gone()
        gone.set()

    async with serving(script, security) as origin, origin.transport(idle_seconds=0.02) as transport:
        await read_all(await transport.send(post()))
        await gone.wait()
        assert (await transport.send(post())).status == 200
        assert origin.accepted == 2


async def test_a_peer_that_half_closes_after_its_response_gets_no_other_call(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        if peer.writer.can_write_eof():
            peer.writer.write_eof()
        else:
            peer.close()
        await peer.gone()

    async with serving(script, security) as origin, origin.transport() as transport:
        for _ in range(2):
            response = await transport.send(post())
            assert await response.read() == b"ok"
            while "1 busy" in repr(transport):
                await asyncio.sleep(0)
            response.close()
            assert "0 idle" in repr(transport)
        assert origin.accepted == 2


async def test_a_closed_transport_is_held_by_nothing(security: Security | None) -> None:
    """No timer, no callback and no connection that outlives it keeps it alive."""
    async with serving(keep_answering, security) as origin:
        async with origin.transport() as transport:
            await read_all(await transport.send(post()))
            unfinished = await transport.send(post())
        unfinished.close()
        left = weakref.ref(transport)
        del transport, unfinished
        await asyncio.sleep(0)
        gc.collect()
        assert left() is None


async def test_the_peers_end_is_seen_before_the_loop_tells_of_it_and_what_it_says_is_no_end() -> None:
    ends = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.say(b"x")
        await ends.wait()
        peer.end()
        await peer.gone()

    async with serving(script) as origin:
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        transport, connection = await loop.create_connection(
            lambda: Connection(loop, memoryview(bytearray(RECEIVE_BUFFER)), lost.set_result),
            "127.0.0.1",
            int(origin.url.rpartition(":")[2]),
        )
        transport.pause_reading()
        while connection.quiet():
            await asyncio.sleep(0)
        assert not connection.ended()
        ends.set()
        while not connection.ended():
            await asyncio.sleep(0)
        assert connection.open
        connection.abort()
        assert await lost is connection


@pytest.mark.parametrize("ending", ["cut", "unanswered", "refused"])
async def test_a_call_that_failed_leaves_nothing_to_the_garbage_collector(
    ending: str, security: Security | None
) -> None:
    """With its response and OpenSSL's memory it may be large, and the collector counts objects only."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if ending == "cut":
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        peer.cut()

    async def call(transport: Http11Transport) -> None:
        with contextlib.suppress(UpstreamFailed), contextlib.closing(await transport.send(post())) as response:
            while await response.read():
                pass

    async with serving(script, security) as origin:
        options = {"ssl_context": None} if security and ending == "refused" else {}
        async with origin.transport(**options) as transport:
            if ending == "refused" and not security:
                transport.port = 1
            gc.collect()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                await call(transport)
                while "0 busy" not in repr(transport):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.01)
                gc.collect()
                assert not [left for left in gc.garbage if isinstance(left, Connection | RoundTrip | UpstreamFailed)]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()


async def test_it_is_drained_only_while_the_kernel_has_taken_everything(security: Security | None) -> None:
    """However little is left behind: what was sent, and whether the connection may be used again, hangs on it."""
    size = 1000

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await start_reading.wait()
        peer.writer.transport.resume_reading()
        await peer.gone()

    start_reading = asyncio.Event()
    async with serving(script, security) as origin:
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        buffer = memoryview(bytearray(RECEIVE_BUFFER))

        def make() -> Connection:
            if security is None:
                return Connection(loop, buffer, lost.set_result)
            return TlsConnection(loop, buffer, lost.set_result, security.client, "localhost")

        port = int(origin.url.rpartition(":")[2])
        transport, connection = await loop.create_connection(make, "localhost", port)
        await connection.secured()
        while connection.drained:
            connection.write(bytes(size))
        assert 0 < transport.get_write_buffer_size() < 2 * size
        start_reading.set()
        while not connection.drained:
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() == 0
        connection.abort()
        assert await lost is connection
