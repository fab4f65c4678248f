"""A request body that goes up in pieces: at the pace of the kernel, counted as sent when it is, as long as it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.errors import Sent, UpstreamFailed
from proxy.upstreams.round_trip import SLICE
from proxy.upstreams.transport import Timeouts
from tests.upstreams.origin import BOTH_LOOPS, Peer, Security, post, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

MORE = bytes(range(256)) * 4 * 4 * 8192
"""32 MiB: more than the kernel's buffers of both sides hold."""


async def test_a_body_in_pieces_waits_for_the_kernel() -> None:
    asked = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(len(MORE) // SLICE):
            asked += 1
            yield MORE[:SLICE]

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()
        await asyncio.Event().wait()

    async with serving(script) as origin, origin.transport(timeouts=Timeouts(write=0.1)) as transport:
        with pytest.raises(UpstreamFailed, match=r"\(write\)"):
            await transport.send(post(pieces(), len(MORE)))
        assert asked < len(MORE) // SLICE


async def test_a_body_in_pieces_has_gone_up_with_its_last_byte_whatever_its_iterator_does_then(
    security: Security | None,
) -> None:
    """The upstream may be at work by then, and what it does costs money."""
    last_piece_taken = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"12"
        yield b"34"
        last_piece_taken.set()
        await asyncio.Event().wait()

    async def script(peer: Peer) -> None:
        assert (await peer.request())[1] == b"1234"
        await last_piece_taken.wait()
        peer.cut()

    async with serving(script, security) as origin, origin.transport() as transport:
        with pytest.raises(UpstreamFailed, match="without an answer") as caught:
            await transport.send(post(pieces(), 4))
        assert caught.value.sent is Sent.WHOLE


@pytest.mark.parametrize("length", [3, 5])
async def test_a_body_in_pieces_of_another_length_is_an_error_and_drops_the_connection(
    length: int, security: Security | None
) -> None:
    got = asyncio.Queue[bytes]()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"12"
        yield b"34"

    async def script(peer: Peer) -> None:
        await peer.head()
        got.put_nowait(await peer.reader.read())

    async with serving(script, security) as origin, origin.transport() as transport:
        with pytest.raises(ValueError, match="content-length"):
            await transport.send(post(pieces(), length))
        assert len(await got.get()) <= length
