"""Each phase of a call has its time; over it, or cancelled in it, a call gives back all it had."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.transport import Timeouts
from tests.transport.counts import back_to, counts
from tests.upstreams.origin import BOTH_LOOPS, Peer, Script, Security, make_security, post, read_all, serving

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

SHORT = 0.05
"""Seconds that the phase in question may take; the others have plenty."""
BODY = bytes(32 << 20)
"""More than the kernel's buffers of both sides hold."""


class Phase(NamedTuple):
    """How a call comes to wait in it, and what is said of one that waited too long."""

    timeouts: Timeouts
    script: Script
    says: str
    reason: Reason
    sent: Sent
    body: bytes = b"{}"


async def silent(peer: Peer) -> None:
    await peer.gone()


async def deaf(peer: Peer) -> None:
    peer.writer.transport.pause_reading()
    await asyncio.Event().wait()


async def reads(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def begins(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    await peer.gone()


PATIENT = Timeouts(pool=SHORT, connect=20, write=20, first_byte=20, idle=20)
PHASES = {
    "handshake": Phase(
        PATIENT._replace(connect=SHORT),
        silent,
        rf"no connection within {SHORT} s \(connect\)",
        Reason.UPSTREAM_UNREACHABLE,
        Sent.NOTHING,
    ),
    "write": Phase(
        PATIENT._replace(write=SHORT),
        deaf,
        rf"took no more of the request for {SHORT} s \(write\)",
        Reason.UPSTREAM_TIMEOUT,
        Sent.PART,
        BODY,
    ),
    "first byte": Phase(
        PATIENT._replace(first_byte=SHORT),
        reads,
        rf"did not begin to answer within {SHORT} s \(first byte\)",
        Reason.UPSTREAM_TIMEOUT,
        Sent.WHOLE,
    ),
    "idle": Phase(
        PATIENT._replace(idle=SHORT),
        begins,
        rf"sent nothing for {SHORT} s in the middle of its response \(idle\)",
        Reason.UPSTREAM_TIMEOUT,
        Sent.WHOLE,
    ),
}
EVERY_PHASE = pytest.mark.parametrize("phase", PHASES.values(), ids=[name.replace(" ", "-") for name in PHASES])


@pytest.fixture(scope="module")
def security(tmp_path_factory: pytest.TempPathFactory) -> Security:
    return make_security(tmp_path_factory.mktemp("certificates"))


@contextlib.asynccontextmanager
async def waiting_in(phase: Phase, security: Security) -> AsyncIterator[Callable[[], Coroutine[Any, Any, bytes]]]:
    """Gives a call that comes to wait in the phase; the transport has a place for one. All is given back at the end."""
    handshake = phase.script is silent
    before = counts()
    async with serving(phase.script) as origin:
        url = origin.url.replace("http", "https") if handshake else origin.url
        context = security.client if handshake else None
        transport = Http11Transport(url, max_connections=1, timeouts=phase.timeouts, ssl_context=context)
        async with contextlib.aclosing(transport):

            async def call() -> bytes:
                with contextlib.closing(await transport.send(post(phase.body))) as response:
                    return await read_all(response)

            yield call
    assert await back_to(before) == before


@EVERY_PHASE
async def test_a_call_that_waits_too_long_says_in_which_phase_and_gives_its_place_back(
    phase: Phase, security: Security
) -> None:
    async with waiting_in(phase, security) as call:
        for _ in range(2):  # the second would wait for the first one's place in vain
            with pytest.raises(UpstreamFailed, match=phase.says) as caught:
                await call()
            assert (caught.value.reason, caught.value.sent) == (phase.reason, phase.sent)


@EVERY_PHASE
async def test_a_call_that_is_cancelled_gives_its_place_back_wherever_it_was(phase: Phase, security: Security) -> None:
    for turns in (1, 2, 3, 5, 8, 30):
        async with waiting_in(phase, security) as call:
            calling = asyncio.get_running_loop().create_task(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait((calling,))
            assert calling.cancelled()
            with pytest.raises(UpstreamFailed, match=phase.says):
                await call()


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port that neither takes nor refuses a connection."""
    with socket.socket() as listener, contextlib.ExitStack() as taken:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            connection = taken.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_connection_that_neither_comes_nor_is_refused_is_given_up(security: Security) -> None:
    with full_backlog() as port:
        before = counts()
        transport = Http11Transport(
            f"http://127.0.0.1:{port}", max_connections=1, timeouts=PATIENT._replace(connect=SHORT)
        )
        for _ in range(2):
            with pytest.raises(UpstreamFailed, match=rf"no connection within {SHORT} s \(connect\)") as caught:
                await transport.send(post())
            assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.NOTHING)
        calling = asyncio.get_running_loop().create_task(transport.send(post()))
        await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait((calling,))
        with pytest.raises(UpstreamFailed, match=r"\(connect\)"):
            await transport.send(post())
        await transport.aclose()
        assert await back_to(before) == before
