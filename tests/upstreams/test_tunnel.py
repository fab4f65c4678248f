"""Through a forward proxy: what it is asked, what it may answer, and that it has no part in what goes through."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.connection import Connection
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.tls import tls_context
from proxy.upstreams.transport import Timeouts
from proxy.upstreams.tunnel import ForwardProxy
from tests.certificates import make_certificate, server_context
from tests.transport.counts import back_to, counts
from tests.upstreams.forward_proxy import Forwarding, forwarding
from tests.upstreams.origin import BOTH_LOOPS, Peer, Security, post, read_all, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]


async def keep_answering(peer: Peer) -> None:
    while True:
        await peer.answer()


@contextlib.asynccontextmanager
async def going_through(
    proxy: Forwarding, url: str, password: str = "", **options: Any
) -> AsyncIterator[Http11Transport]:
    """A transport through this proxy, of which nothing is left afterwards."""
    transport = Http11Transport(url, forward_proxy=ForwardProxy(proxy.url, password), **options)
    async with contextlib.aclosing(transport):
        yield transport


async def test_calls_go_through_the_proxy_one_after_another_over_one_way(security: Security | None) -> None:
    async with serving(keep_answering, security) as origin, forwarding() as proxy:
        async with going_through(proxy, origin.url, ssl_context=security and security.client) as transport:
            for _ in range(3):
                assert await read_all(await transport.send(post())) == b"ok"
            assert "0 busy, 1 idle" in repr(transport)
        at = origin.url.partition("//")[2].encode()
        assert proxy.heads == [b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (at, at)]
        assert origin.accepted == 1


async def test_the_proxy_resolves_the_upstreams_name_and_tls_holds_it_against_the_certificate(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "inner.test")
    security = Security(server_context(certificate), tls_context(str(certificate.path)))
    async with serving(keep_answering, security) as origin, forwarding() as proxy:
        port = origin.url.rpartition(":")[2]
        proxy.hosts = {"inner.test": "127.0.0.1", "other.test": "127.0.0.1"}
        async with going_through(proxy, f"https://inner.test:{port}", ssl_context=security.client) as transport:
            assert await read_all(await transport.send(post())) == b"ok"
        async with going_through(proxy, f"https://other.test:{port}", ssl_context=security.client) as transport:
            with pytest.raises(UpstreamFailed, match="its certificate was refused, Hostname mismatch") as caught:
                await transport.send(post())
        assert "other.test" not in caught.value.message
        assert caught.value.sent is Sent.NOTHING


async def test_an_ipv6_address_is_asked_for_in_brackets() -> None:
    async with forwarding(answer=b"HTTP/1.1 403 no\r\n\r\n") as proxy:
        async with going_through(proxy, "https://[::1]:8443") as transport:
            with pytest.raises(UpstreamFailed):
                await transport.send(post())
        assert proxy.heads[0].startswith(b"CONNECT [::1]:8443 HTTP/1.1\r\nhost: [::1]:8443\r\n")


async def test_a_user_and_its_password_go_to_the_proxy_and_no_further() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append((await peer.request())[0])
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with serving(script) as origin, forwarding() as proxy:
        user = Forwarding(url=proxy.url.replace("//", "//al%40ice@"))
        async with going_through(user, origin.url, "pass:word") as transport:
            await read_all(await transport.send(post()))
            assert "pass" not in repr(transport) + repr(transport._forward_proxy)
    assert b"\r\nproxy-authorization: Basic YWxAaWNlOnBhc3M6d29yZA==\r\n" in proxy.heads[0]
    assert b"proxy-authorization" not in seen[0]


@pytest.mark.parametrize(
    "opened", [b"HTTP/1.0 200 ok\r\n\r\n", b"HTTP/1.1 299 x\r\ncontent-length: 0\r\nvia: a\r\n\r\n"]
)
async def test_any_2xx_opens_the_way(opened: bytes, security: Security | None) -> None:
    async with (
        serving(keep_answering, security) as origin,
        forwarding(opened=opened) as proxy,
        going_through(proxy, origin.url, ssl_context=security and security.client) as transport,
    ):
        assert await read_all(await transport.send(post())) == b"ok"


REFUSALS = {
    "407": (
        b"HTTP/1.1 407 x\r\nproxy-authenticate: Basic realm=inner.corp\r\ncontent-length: 9\r\n\r\nsecretive",
        r"the forward proxy refused its user name or password, or wants some \(407\)",
    ),
    "403": (b"HTTP/1.1 403 inner.corp says no\r\n\r\n", "the forward proxy opened no way there and answered 403"),
    "502": (b"HTTP/1.1 502 x\r\ncontent-length: 3\r\n\r\nabc", "opened no way there and answered 502"),
    "redirect": (b"HTTP/1.1 302 x\r\nlocation: http://inner.corp\r\n\r\n", "and answered 302"),
    "garbage": (b"SSH-2.0-inner.corp\r\n", "the forward proxy answered with what is no HTTP"),
    "closes": (b"HTTP/1.1 20", "the forward proxy closed the connection without an answer"),
    "silent": (b"", r"no connection within 0.2 s"),
    "talks on": (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "said more than that the way is open"),
}


@pytest.mark.parametrize("how", REFUSALS)
async def test_a_proxy_that_opens_no_way_is_told_and_nothing_has_gone_up(how: str) -> None:
    """Its own words and names aren't: what it says may be about the operator's network, and callers read this."""
    answer, words = REFUSALS[how]
    announced: list[bool] = []
    async with forwarding(answer=answer) as proxy:
        before = counts()
        timeouts = Timeouts(connect=0.2 if how == "silent" else 10, pool=0.1)
        async with going_through(proxy, "https://up.test", max_connections=1, timeouts=timeouts) as transport:
            for _ in range(2):
                with pytest.raises(UpstreamFailed, match=words) as caught:
                    await transport.send(post(), lambda: announced.append(True))
                assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.NOTHING)
                assert not [
                    name for name in ("inner", "up.test", "127.0.0.1", "secret") if name in caught.value.message
                ]
        del caught
        assert (await back_to(before)).tasks <= before.tasks + 2  # the proxy's own
    assert not announced


async def test_a_proxy_that_is_not_there_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with going_through(Forwarding(url=url), "https://up.test") as transport:
        with pytest.raises(UpstreamFailed, match="on the way to the forward proxy, connection refused") as caught:
            await transport.send(post())
        assert caught.value.sent is Sent.NOTHING


async def test_a_proxy_whose_name_is_not_resolved_is_told_as_such() -> None:
    url = "http://no-such-proxy.invalid:3128"
    async with going_through(Forwarding(url=url), "https://up.test") as transport:
        with pytest.raises(
            UpstreamFailed, match="on the way to the forward proxy, its name was not resolved"
        ) as caught:
            await transport.send(post())
        assert "invalid" not in caught.value.message


async def test_a_reset_inside_the_tunnel_is_one_of_the_tls_handshake(tls_security: Security) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.cut()

    async with serving(script) as origin, forwarding() as proxy:
        url = origin.url.replace("http", "https")
        async with going_through(proxy, url, ssl_context=tls_security.client) as transport:
            with pytest.raises(UpstreamFailed, match="it closed the connection in the TLS handshake") as caught:
                await transport.send(post())
            assert caught.value.sent is Sent.NOTHING


async def test_a_call_cancelled_while_the_proxy_thinks_leaves_nothing() -> None:
    async with forwarding(answer=b"") as proxy, going_through(proxy, "https://up.test", max_connections=1) as transport:
        call = asyncio.get_running_loop().create_task(transport.send(post()))
        while not proxy.heads:
            await asyncio.sleep(0)
        before = counts().sockets
        call.cancel()
        await asyncio.wait((call,))
        assert "0 busy" in repr(transport)
        while counts().sockets > before - 2:  # ours and the proxy's
            await asyncio.sleep(0)


async def test_a_refused_way_leaves_nothing_to_the_garbage_collector() -> None:
    async with (
        forwarding(answer=b"HTTP/1.1 403 x\r\n\r\n") as proxy,
        going_through(proxy, "https://up.test") as transport,
    ):
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            with contextlib.suppress(UpstreamFailed):
                await transport.send(post())
            await asyncio.sleep(0.01)
            gc.collect()
            assert not [left for left in gc.garbage if isinstance(left, Connection | OSError | UpstreamFailed)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
