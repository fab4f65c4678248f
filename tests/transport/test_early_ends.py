"""An upstream that ends a call before the request is up: its answer is read, and what went up isn't overstated."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport, tls_context
from tests.certificates import make_certificate, server_context
from tests.transport.counts import back_to, counts
from tests.transport.threaded import threaded, wait_until_acknowledged
from tests.upstreams.origin import BOTH_LOOPS, post, read_all

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

PIECE = bytes(300_000)
ANSWER = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"


class Upstream:
    """Reads the beginning of one request, says `answer` and closes with bytes unread, which resets the connection."""

    def __init__(self, answer: bytes, context: ssl.SSLContext | None) -> None:
        self._answer = answer
        self._context = context
        self._asked = threading.Event()
        self._reset = threading.Event()

    def serve(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
        connection.recv(1000)
        self._asked.wait(10)
        if self._answer:
            connection.sendall(self._answer)
        wait_until_acknowledged(connection)  # a reset may overtake what is on the way, and does on two processors
        connection.close()
        self._reset.set()

    async def body(self) -> AsyncIterator[bytes]:
        """Its second piece comes when the connection is reset, and the loop hasn't heard of it."""
        yield PIECE
        for _ in range(3):  # turns of the loop in which it writes what it has
            await asyncio.sleep(0)
        self._asked.set()
        self._reset.wait(10)
        yield PIECE
        yield PIECE


@contextlib.asynccontextmanager
async def calling(upstream: Upstream, authority: Path | None) -> AsyncIterator[Http11Transport]:
    with threaded(upstream.serve) as port:
        before = counts()
        context = tls_context(cafile=str(authority)) if authority else None
        url = f"http{'s' if authority else ''}://localhost:{port}"
        async with contextlib.aclosing(Http11Transport(url, ssl_context=context)) as transport:
            yield transport
            assert "0 idle, 0 waiting" in repr(transport)
        assert await back_to(before) == before


@pytest.fixture(params=["plain", "tls"])
def security(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext | None, Path | None]:
    if request.param == "plain":
        return None, None
    authority = make_certificate(tmp_path, "authority.example")
    return server_context(make_certificate(tmp_path, issuer=authority)), authority.path


async def test_an_answer_is_read_though_the_connection_was_reset_behind_it(
    security: tuple[ssl.SSLContext | None, Path | None],
) -> None:
    upstream = Upstream(ANSWER, security[0])
    async with calling(upstream, security[1]) as transport:
        response = await transport.send(post(upstream.body(), 3 * len(PIECE)))
        assert (response.status, await read_all(response)) == (413, b"no")


async def test_a_request_whose_rest_went_nowhere_has_not_gone_up_whole(
    security: tuple[ssl.SSLContext | None, Path | None],
) -> None:
    """What went up whole may have been worked on, and is billed by estimate: this was not."""
    upstream = Upstream(b"", security[0])
    async with calling(upstream, security[1]) as transport:
        with pytest.raises(UpstreamFailed, match="without an answer") as caught:
            await transport.send(post(upstream.body(), 3 * len(PIECE)))
        assert caught.value.sent is Sent.PART
