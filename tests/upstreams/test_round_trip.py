"""One call over a connection: what is sent, what comes back, what each phase waits for, and what an ending means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.connection import READ
from proxy.upstreams.round_trip import HIGH_WATER, SLICE, RoundTrip
from proxy.upstreams.tls import RECORD
from proxy.upstreams.transport import Timeouts
from tests.upstreams.origin import BOTH_LOOPS, OK, Peer, Security, post, read_all, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

LARGE = bytes(range(256)) * 4 * 8192
"""8 MiB: more than the kernel takes at once."""
MORE = LARGE * 4
"""32 MiB: more than the kernel's buffers of both sides hold."""


def now_there(response: RoundTrip) -> int:
    """Bytes that can be read without waiting."""
    total = 0
    while not response.complete:
        reading = response.read()
        try:
            reading.send(None)
        except StopIteration as done:
            total += len(done.value)
        else:
            reading.close()
            break
    return total


@pytest.mark.parametrize("size", [0, 1, 934, SLICE, SLICE + 1, len(LARGE)])
@pytest.mark.parametrize("kind", [bytes, bytearray, "pieces"])
async def test_a_body_of_any_size_and_kind_goes_up_whole(
    kind: type | str, size: int, security: Security | None
) -> None:
    body = LARGE[:size]
    seen = asyncio.Queue[bytes]()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 300_000):
            yield body[start : start + 300_000]
            yield b""

    async def script(peer: Peer) -> None:
        while True:
            seen.put_nowait((await peer.request())[1])
            await peer.say(OK)

    async with serving(script, security) as origin, origin.transport() as transport:
        for _ in range(2):
            sent = pieces() if isinstance(kind, str) else kind(body)
            assert await read_all(await transport.send(post(sent, size))) == b"ok"
            assert await seen.get() == body
        assert origin.accepted == 1


@pytest.mark.parametrize("size", [0, 5, HIGH_WATER + 1, len(LARGE)])
@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
async def test_a_body_of_any_size_and_framing_comes_down_whole(
    framing: str, size: int, security: Security | None
) -> None:
    body = LARGE[:size]
    chunks = [body[at : at + 100_000] for at in range(0, size, 100_000)]
    wires = {
        "length": b"content-length: %d\r\n\r\n" % size + body,
        "chunked": b"transfer-encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        + b"0\r\n\r\n",
        "until-close": b"\r\n" + body,
    }

    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\nx-a: B\r\n" + wires[framing])

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        assert (response.status, response.headers[0]) == (200, (b"x-a", b"B"))
        assert await read_all(response) == body
        assert await response.read() == b""


async def test_a_response_that_comes_byte_by_byte_is_the_same(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for (
            byte
        ) in b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n":
            await peer.say(bytes([byte]))
            await asyncio.sleep(0)
        await peer.gone()

    async with serving(script, security) as origin, origin.transport() as transport:
        assert await read_all(await transport.send(post())) == b"ok"


async def test_complete_is_true_with_the_last_piece() -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        await more.wait()
        await peer.say(b"cd")
        await peer.gone()

    async with serving(script) as origin, origin.transport() as transport:
        response = await transport.send(post())
        assert (await response.read(), response.complete) == (b"ab", False)
        more.set()
        assert (await response.read(), response.complete) == (b"cd", True)
        assert repr(response) == "<RoundTrip 200 complete>"


async def test_an_unread_body_is_held_back_and_arrives_whole_when_it_is_read(security: Security | None) -> None:
    stalled = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(MORE))
        peer.writer.write(MORE)
        left = -1
        while left != (left := peer.writer.transport.get_write_buffer_size()):
            await asyncio.sleep(0.05)
        stalled.set()
        await peer.gone()

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        await stalled.wait()
        held = len(await response.read())
        for _ in range(20):  # taking what is there makes room, and asks for nothing
            await asyncio.sleep(0.001)
        held += now_there(response)
        assert HIGH_WATER <= held <= HIGH_WATER + READ + RECORD
        assert len(await read_all(response)) == len(MORE) - held


@pytest.mark.parametrize("size", [HIGH_WATER, 300_000, 518_000, 900_001])
async def test_nothing_is_lost_when_the_peer_closes_before_a_slow_reader_has_read(
    size: int, security: Security | None
) -> None:
    """The end of the stream stays behind the bytes before it, however long reading is paused."""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size)
        for start in range(0, size, 16_000):
            peer.writer.write(LARGE[start : min(start + 16_000, size)])
        peer.end()
        closed.set()
        await peer.gone()

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        await closed.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert await read_all(response) == LARGE[:size]


async def test_a_slow_reader_gets_all_of_a_body_until_close(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\n\r\n" + LARGE)
        peer.close()

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        read = bytearray()
        while not response.complete:
            for _ in range(5):
                await asyncio.sleep(0)
            read += await response.read()
        assert read == LARGE


@pytest.mark.parametrize("framing", [b"content-length: 10", b"transfer-encoding: chunked"])
async def test_a_body_that_is_cut_short_fails_after_what_had_come(framing: bytes, security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\nabcde" % framing)
        peer.cut()

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        assert await response.read() == (b"abcde" if b"chunked" in framing else b"5\r\nabcde")
        assert not response.complete
        with pytest.raises(UpstreamFailed, match="in the middle of its response") as caught:
            await response.read()
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.WHOLE)


async def test_over_tls_a_body_until_close_is_complete_only_with_close_notify(tls_security: Security) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\n\r\nab")
        if peer.number == 1:
            peer.close()
        else:
            peer.cut()

    async with serving(script, tls_security) as origin, origin.transport() as transport:
        assert await read_all(await transport.send(post())) == b"ab"
        response = await transport.send(post())
        assert await response.read() == b"ab"
        with pytest.raises(UpstreamFailed, match="in the middle of its response"):
            await response.read()


async def test_a_mistake_in_the_body_fails_the_reading(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n")
        await peer.gone()

    async with serving(script, security) as origin, origin.transport() as transport:
        response = await transport.send(post())
        assert await response.read() == b"ok"
        for _ in range(2):
            with pytest.raises(UpstreamFailed, match="bad chunk size"):
                await response.read()


async def test_a_peer_that_closes_while_the_body_goes_up_has_got_a_part(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.cut()

    async with serving(script, security) as origin, origin.transport() as transport:
        with pytest.raises(UpstreamFailed, match="without an answer") as caught:
            await transport.send(post(MORE))
        assert caught.value.sent is Sent.PART


async def test_a_peer_that_takes_no_more_of_the_body_is_a_timeout_in_the_write_phase(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()
        await asyncio.Event().wait()

    async with serving(script, security) as origin, origin.transport(timeouts=Timeouts(write=0.1)) as transport:
        with pytest.raises(UpstreamFailed, match=r"\(write\)") as caught:
            await transport.send(post(MORE))
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_TIMEOUT, Sent.PART)


async def test_a_peer_that_takes_the_body_slowly_is_not_a_timeout() -> None:
    timeouts = Timeouts(write=0.6)

    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert b"content-length: %d\r\n" % len(MORE) in head
        for _ in range(8):
            await peer.reader.readexactly(len(MORE) // 8)
            await asyncio.sleep(0.1)
        await peer.say(OK)

    async with serving(script) as origin, origin.transport(timeouts=timeouts) as transport:
        assert (await transport.send(post(MORE))).status == 200


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200"])
async def test_no_answer_is_a_timeout_in_the_first_byte_phase(begun: bytes, security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(begun)
        await peer.gone()

    async with serving(script, security) as origin, origin.transport(timeouts=Timeouts(first_byte=0.1)) as transport:
        with pytest.raises(UpstreamFailed, match=r"\(first byte\)") as caught:
            await transport.send(post())
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_TIMEOUT, Sent.WHOLE)


async def test_a_head_that_drips_does_not_put_off_the_first_byte_timeout() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            await peer.say(b"y")
            await asyncio.sleep(0.01)

    async with serving(script) as origin, origin.transport(timeouts=Timeouts(first_byte=0.1)) as transport:
        with pytest.raises(UpstreamFailed, match=r"\(first byte\)"):
            await transport.send(post())


async def test_silence_in_the_body_is_a_timeout_in_the_idle_phase(security: Security | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        await peer.gone()

    timeouts = Timeouts(first_byte=600, idle=0.05)
    async with serving(script, security) as origin, origin.transport(timeouts=timeouts) as transport:
        response = await transport.send(post())
        assert await response.read() == b"ab"
        with pytest.raises(UpstreamFailed, match=r"\(idle\)") as caught:
            await response.read()
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_TIMEOUT, Sent.WHOLE)


async def test_one_timer_serves_calls_whose_phases_are_short_after_long_ones() -> None:
    """The timer of an earlier call doesn't fire into a later one."""
    timeouts = Timeouts(first_byte=0.5, idle=0.05)

    async def script(peer: Peer) -> None:
        for _ in range(8):
            await peer.request()
            await asyncio.sleep(0.08)
            await peer.say(OK)
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        await peer.gone()

    async with serving(script) as origin, origin.transport(timeouts=timeouts) as transport:
        for _ in range(8):
            await read_all(await transport.send(post()))
        with pytest.raises(UpstreamFailed, match=r"\(idle\)"):
            await read_all(await transport.send(post()))
        assert origin.accepted == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_early_response_ends_the_sending_and_the_connection(streamed: bool, security: Security | None) -> None:
    gone = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield LARGE
        await asyncio.Event().wait()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()
        await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        while "1 busy" in repr(transport):
            await asyncio.sleep(0)
        gone.set()

    async with serving(script, security) as origin, origin.transport() as transport:
        before = asyncio.all_tasks()
        response = await transport.send(post(pieces() if streamed else MORE, len(MORE)))
        assert response.status == 413
        assert asyncio.all_tasks() - before == {task for task in origin.tasks if not task.done()} - before
        assert await read_all(response) == b"no"
        assert "0 idle" in repr(transport)
        await gone.wait()
