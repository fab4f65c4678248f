"""TLS: records in any cuts, what comes between them, and endings. What holds plain as well, the other tests say."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from proxy.errors import Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.tls import RECORD
from proxy.upstreams.transport import Timeouts
from tests.upstreams.origin import BOTH_LOOPS, OK, Origin, Peer, Security, post, read_all, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

BODY = bytes(range(256)) * 4096
"""1 MiB."""
LONG = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nok"


class Wire:
    """The server's side of TLS over a plain peer: what it writes goes out when a test says, and as it says."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> bytes:
        """Returns the session tickets, which TLS 1.3 sends when it likes."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.peer.say(self._outgoing.read())
                await self._hear()
            else:
                break
        if self.tls.version() == "TLSv1.3":
            return self._outgoing.read()
        await self.peer.say(self._outgoing.read())
        return b""

    async def request(self) -> bytes:
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                await self._hear()

    def sealed(self, data: bytes) -> bytes:
        at = 0
        while at < len(data):
            at += self.tls.write(data[at:])
        return self._outgoing.read()

    def close_notify(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    async def say(self, data: bytes, cut: int = 1 << 30) -> None:
        for start in range(0, len(data), cut):
            await self.peer.say(data[start : start + cut])
            await asyncio.sleep(0)

    async def _hear(self) -> None:
        data = await self.peer.reader.read(65536)
        if not data:
            raise ConnectionResetError
        self._incoming.write(data)


def https(origin: Origin, security: Security, **options: object) -> Http11Transport:
    """A transport that takes this plain origin for one that speaks TLS."""
    url = origin.url.replace("http://127.0.0.1", "https://localhost")
    return Http11Transport(url, ssl_context=security.client, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("cut", [1, 5, 1000, RECORD, RECORD + 22, 40_000, 1 << 30])
async def test_a_response_is_the_same_however_its_records_are_cut(
    cut: int, version: ssl.TLSVersion, tls_security: Security
) -> None:
    answer = OK if cut < 1000 else LONG
    context = tls_security.server

    async def script(peer: Peer) -> None:
        wire = Wire(peer, context)
        tickets = await wire.shake_hands()
        for _ in range(2):
            await wire.request()
            await wire.say(tickets + wire.sealed(answer), cut)
            tickets = b""
        await peer.gone()

    before, context.maximum_version = context.maximum_version, version
    try:
        async with serving(script) as origin:
            transport = https(origin, tls_security)
            for _ in range(2):
                assert await read_all(await transport.send(post())) == answer.rpartition(b"\r\n\r\n")[2]
            assert origin.accepted == 1
            await transport.aclose()
    finally:
        context.maximum_version = before


async def test_what_comes_with_the_end_is_read_before_it(tls_security: Security) -> None:
    async def script(peer: Peer) -> None:
        wire = Wire(peer, tls_security.server)
        await wire.say(await wire.shake_hands())
        await wire.request()
        await wire.say(wire.sealed(UNTIL_CLOSE) + wire.close_notify())
        await peer.gone()

    async with serving(script) as origin:
        transport = https(origin, tls_security)
        assert await read_all(await transport.send(post())) == b"ok"
        await transport.aclose()


@pytest.mark.parametrize("where", ["at once", "later", "in a record"])
async def test_what_no_record_is_fails_the_call_after_what_came_before_it(where: str, tls_security: Security) -> None:
    """Nobody on the way can put a byte in, or take one out."""

    async def script(peer: Peer) -> None:
        wire = Wire(peer, tls_security.server)
        await wire.say(await wire.shake_hands())
        await wire.request()
        good, forged = wire.sealed(UNTIL_CLOSE), b"\x17\x03\x03\x00\x20" + bytes(32)
        if where == "at once":
            await wire.say(good + forged)
        else:
            await wire.say(good)
            await read.wait()
            await wire.say(forged if where == "later" else wire.sealed(b"more")[:9] + forged)
        await peer.gone()

    read = asyncio.Event()
    async with serving(script) as origin:
        transport = https(origin, tls_security)
        response = await transport.send(post())
        assert await response.read() == b"ok"
        read.set()
        with pytest.raises(UpstreamFailed, match=r"in the middle of its response: [A-Z0-9_]+\.") as caught:
            await response.read()
        assert caught.value.sent is Sent.WHOLE
        response.close()
        await transport.aclose()


async def test_a_peer_that_hangs_up_in_the_handshake_is_unreachable(tls_security: Security) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)

    async with serving(script) as origin:
        transport = https(origin, tls_security, max_connections=1)
        for _ in range(2):
            with pytest.raises(UpstreamFailed, match="it closed the connection in the TLS handshake") as caught:
                await transport.send(post())
            assert caught.value.sent is Sent.NOTHING
        await transport.aclose()


async def test_cancelling_a_call_in_the_handshake_drops_its_connection(tls_security: Security) -> None:
    come, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        come.set()
        await peer.gone()
        gone.set()

    async with serving(script) as origin, asyncio.TaskGroup() as tasks:
        transport = https(origin, tls_security, timeouts=Timeouts(connect=600))
        call = tasks.create_task(transport.send(post()))
        await come.wait()
        call.cancel()
        await gone.wait()
        await transport.aclose()
