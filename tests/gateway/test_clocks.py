"""The clocks of a connection: told once when nothing came, or nothing was read, for too long; with few timers."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from proxy.gateway.clocks import STALL_LOOKS, Deadline, StallWatch
from tests.steered import Steered, steered


async def turns() -> None:
    """Lets whatever is due run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_deadline_that_passes_is_told_once() -> None:
    async def main(loop: Steered) -> None:
        told: list[float] = []
        deadline = Deadline(loop, lambda: told.append(deadline.at))
        deadline.set(10)
        loop.advance(9)
        await turns()
        assert told == []
        loop.advance(2)
        await turns()
        loop.advance(100)
        await turns()
        assert told == [float("inf")], "nothing is due any more when it is told"

    steered(main)


@pytest.mark.parametrize("end", [Deadline.clear, Deadline.cancel])
def test_a_deadline_that_is_met_is_not_told(end: Callable[[Deadline], None]) -> None:
    async def main(loop: Steered) -> None:
        told: list[str] = []
        deadline = Deadline(loop, lambda: told.append("late"))
        deadline.set(10)
        end(deadline)
        loop.advance(100)
        await turns()
        assert told == []

    steered(main)


def test_one_timer_serves_many_deadlines() -> None:
    """A later one waits for the timer of the earlier; an earlier one gets its own."""

    async def main(loop: Steered) -> None:
        told: list[str] = []
        deadline = Deadline(loop, lambda: told.append("late"))
        deadline.set(10)
        first = set(loop.timers)
        for seconds in (20, 30, 15):
            deadline.clear()
            deadline.set(seconds)
        assert loop.timers == first
        loop.advance(14)
        await turns()
        assert told == []
        deadline.set(0.5)
        loop.advance(0.6)
        await turns()
        assert told == ["late"]

    steered(main)


class Full(asyncio.Protocol):
    """One side of a pair of sockets whose other side reads only when told; more waits than the kernel takes."""

    transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        self.transport.write(bytes(4 << 20))


@asynccontextmanager
async def full(loop: Steered) -> AsyncIterator[tuple[asyncio.WriteTransport, socket.socket]]:
    near, far = socket.socketpair()
    with far:
        _, protocol = await loop.create_connection(Full, sock=near)
        await turns()
        assert protocol.transport.get_write_buffer_size() > 1 << 20
        yield protocol.transport, far
        protocol.transport.abort()
        await turns()


def test_a_client_that_reads_nothing_has_stalled_after_its_patience_and_not_before() -> None:
    async def main(loop: Steered) -> None:
        async with full(loop) as (transport, _far):
            told: list[str] = []
            watch = StallWatch(loop, transport, 120, lambda: told.append("stalled"))
            watch.begin()
            for _ in range(STALL_LOOKS - 1):
                loop.advance(120 / STALL_LOOKS)
                await turns()
                assert told == []
            loop.advance(120 / STALL_LOOKS)
            await turns()
            assert told == ["stalled"]

    steered(main)


def test_a_client_that_reads_a_little_has_all_its_time_again() -> None:
    async def main(loop: Steered) -> None:
        async with full(loop) as (transport, far):
            told: list[str] = []
            watch = StallWatch(loop, transport, 120, lambda: told.append("stalled"))
            watch.begin()
            for _ in range(5):
                loop.advance(110)
                await turns()
                before = transport.get_write_buffer_size()
                while transport.get_write_buffer_size() == before:
                    far.recv(1 << 20)
                    await asyncio.sleep(0.001)
            assert told == []

    steered(main)


def test_a_client_that_reads_in_drips_has_stalled_though_it_reads_all_the_time() -> None:
    async def main(loop: Steered) -> None:
        async with full(loop) as (transport, far):
            told: list[str] = []
            watch = StallWatch(loop, transport, 120, lambda: told.append("stalled"), least=3 << 20)
            watch.begin()
            for _ in range(STALL_LOOKS):
                assert told == []
                far.recv(100_000)
                await turns()
                loop.advance(120 / STALL_LOOKS)
                await turns()
            assert told == ["stalled"]

    steered(main)


@pytest.mark.parametrize("end", [StallWatch.end, StallWatch.cancel])
def test_a_watch_that_has_ended_tells_nothing(end: Callable[[StallWatch], None]) -> None:
    async def main(loop: Steered) -> None:
        async with full(loop) as (transport, _far):
            told: list[str] = []
            watch = StallWatch(loop, transport, 120, lambda: told.append("stalled"))
            watch.begin()
            end(watch)
            for _ in range(4):
                loop.advance(120)
                await turns()
            assert told == []

    steered(main)


def test_a_watch_begun_again_counts_from_then_with_the_timer_it_has() -> None:
    async def main(loop: Steered) -> None:
        async with full(loop) as (transport, _far):
            told: list[str] = []
            watch = StallWatch(loop, transport, 120, lambda: told.append("stalled"))
            watch.begin()
            timers = set(loop.timers)
            watch.end()
            loop.advance(10)
            await turns()
            watch.begin()
            assert loop.timers == timers
            for _ in range(7):
                loop.advance(16)
                await turns()
            assert told == [], "112 s"
            loop.advance(32)
            await turns()
            assert told == ["stalled"]

    steered(main)


def test_a_connection_that_is_gone_is_not_kept_by_its_clocks() -> None:
    class Connection:
        def __init__(self, loop: Steered) -> None:
            self.owed = Deadline(loop, self.late)

        def late(self) -> None:
            raise AssertionError

    async def main(loop: Steered) -> None:
        connection = Connection(loop)
        connection.owed.set(10)
        connection.owed.cancel()
        gone = weakref.ref(connection)
        gc.disable()
        try:
            del connection
            assert gone() is None
        finally:
            gc.enable()

    steered(main)
