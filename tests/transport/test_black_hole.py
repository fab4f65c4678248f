"""A peer that vanishes: packets are lost, and nobody says so. What was sent fails in about the write phase."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.transport import Timeouts
from tests.namespaces import Namespace
from tests.transport.counts import back_to, counts
from tests.upstreams.origin import BOTH_LOOPS, Origin, Peer, post, read_all

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]

PATIENT = Timeouts(pool=60, connect=60, write=0.5, first_byte=3600, idle=3600)


async def keep_answering(peer: Peer) -> None:
    while True:
        await peer.answer()


@contextlib.asynccontextmanager
async def far(machine: Namespace, listener: socket.socket) -> AsyncIterator[Origin]:
    """An origin that runs there."""
    origin = Origin(keep_answering, None)
    server = await asyncio.start_server(origin.connected, sock=listener)
    origin.url = f"http://{machine.address}:{listener.getsockname()[1]}"
    try:
        async with asyncio.timeout(60):
            yield origin
    finally:
        server.close()
        await origin.stop()


async def test_a_call_whose_bytes_are_acknowledged_by_nobody_fails_long_before_its_answer_is_overdue(
    far_machine: Namespace,
) -> None:
    """On a kept connection: the kernel has taken the whole of it, so it counts as sent, for all that is known."""
    async with (
        far(far_machine, far_machine.listening()) as origin,
        origin.transport(timeouts=PATIENT, max_connections=1) as transport,
    ):
        assert await read_all(await transport.send(post())) == b"ok"
        far_machine.black_hole()
        with pytest.raises(UpstreamFailed, match="was lost without an answer: its network") as caught:
            await transport.send(post())
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.WHOLE)
        far_machine.restore()
        assert await read_all(await transport.send(post())) == b"ok"
        assert origin.accepted == 2


async def test_a_body_that_is_swallowed_on_its_way_up_was_sent_in_part(far_machine: Namespace) -> None:
    async with far(far_machine, far_machine.listening()) as origin, origin.transport(timeouts=PATIENT) as transport:
        assert await read_all(await transport.send(post())) == b"ok"
        far_machine.black_hole()
        with pytest.raises(UpstreamFailed) as caught:
            await transport.send(post(bytes(32 << 20)))
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_TIMEOUT, Sent.PART)


async def test_a_quiet_connection_that_lost_no_byte_outlives_the_hole(far_machine: Namespace) -> None:
    """A model that thinks sends nothing for minutes; what is lost of it is sent again."""
    come, think = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        come.set()
        await think.wait()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with far(far_machine, far_machine.listening()) as origin, origin.transport(timeouts=PATIENT) as transport:
        origin._script = script
        call = asyncio.get_running_loop().create_task(transport.send(post()))
        await come.wait()
        await asyncio.sleep(0.5)  # a kernel acknowledges within 0.2 s
        far_machine.black_hole()
        think.set()
        await asyncio.sleep(PATIENT.write + 1.5)
        far_machine.restore()
        assert await read_all(await call) == b"ok"


async def test_to_a_host_in_the_hole_nothing_goes_up(far_machine: Namespace) -> None:
    """No byte was written, so another upstream may be asked."""
    announced: list[bool] = []
    listener = far_machine.listening()
    far_machine.black_hole()
    before = counts()
    timeouts = PATIENT._replace(connect=0.3)
    transport = Http11Transport(f"http://{far_machine.address}:{listener.getsockname()[1]}", timeouts=timeouts)
    with contextlib.closing(listener):
        with pytest.raises(UpstreamFailed, match=r"no connection within 0.3 s \(connect\)") as caught:
            await transport.send(post(), lambda: announced.append(True))
        await transport.aclose()
        assert (caught.value.reason, caught.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.NOTHING)
        assert not announced
        assert await back_to(before) == before


async def test_of_two_hosts_the_one_in_the_hole_costs_no_call(far_machine: Namespace) -> None:
    """Its address is tried first, by the name service's order, and left for the other's."""
    near = socket.create_server(("127.0.0.1", 0))  # any port that is free here: there all are
    port = near.getsockname()[1]

    async def resolve(host: str) -> list[str]:
        return [far_machine.address, "127.0.0.1"]

    async with far(far_machine, far_machine.listening(port)) as lost:
        here = await asyncio.start_server(lost.connected, sock=near)
        transport = Http11Transport(f"http://two.test:{port}", timeouts=PATIENT, max_age=0.0, resolve=resolve)
        async with contextlib.aclosing(transport), here:
            far_machine.black_hole()
            for _ in range(3):
                assert await read_all(await transport.send(post())) == b"ok"
