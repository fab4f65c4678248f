"""Bytes behind a response are never taken for the next one, whatever buffer's end they stand behind."""

from __future__ import annotations

import asyncio

import pytest

from tests.upstreams.origin import BOTH_LOOPS, Peer, Security, make_security, post, read_all, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

FORGED = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
LIMITS = [kilobytes * 1024 for kilobytes in (16, 32, 64, 128, 256, 272, 288, 576)]
"""Bytes: a record of TLS, water marks, what is read at once, buffers, and twice as much."""


def response(length: int) -> bytes:
    """One of that many bytes, head and all."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
    body = length - len(head % length)
    body += len(b"%d" % length) - len(b"%d" % body)
    return head % body + bytes(body)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Security:
    return make_security(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("slow", [False, True], ids=["read-at-once", "read-late"])
async def test_what_stands_behind_a_buffers_end_answers_no_other_call(
    secure: bool, limit: int, slow: bool, tls: Security
) -> None:
    for length in (limit - 1, limit, limit + 1):
        again = asyncio.Queue[bytes]()

        async def script(peer: Peer, length: int = length, again: asyncio.Queue[bytes] = again) -> None:
            await peer.request()
            peer.writer.write(response(length) + FORGED if peer.number == 1 else response(1000))
            again.put_nowait(await peer.reader.read(100))

        async with serving(script, tls if secure else None) as origin, origin.transport() as transport:
            first = await transport.send(post())
            for _ in range(20 if slow else 0):
                await asyncio.sleep(0)
            assert len(await read_all(first)) == response(length).count(b"\0")
            assert len(await read_all(await transport.send(post()))) == response(1000).count(b"\0")
            assert origin.accepted == 2
            assert await again.get() == b""
