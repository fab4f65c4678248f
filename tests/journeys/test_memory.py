"""Memory doesn't grow with the picture, whatever it is like and whoever reads it, and a call in flight costs little."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from proxy.gateway.images.drawing import READ_AT_ONCE
from tests.journeys.streaming import ARRAY, EVENTS, KB, MB, SINGLE, Caller, Footprint, Upstream, caller
from tests.journeys.watching import until
from tests.proof import Proof, sized
from tests.stand import Weighbridge, weighbridge
from tests.upstreams.origin import make_security, serving

TOGETHER = 25
"""Calls that begin at the same moment. More would wait for this test's own processor time, some until they time out."""
SLOW_WINDOW = 64 * KB
READERS = min(32, (os.cpu_count() or 1) + 4)
"""asyncio's threads."""


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Both ends of every connection but the proxy's are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def picture(size: int) -> bytes:
    """A request's body that asks for one of `size` bytes."""
    return b'{"picture": %d}' % size


class Scene:
    """A Weighbridge that has been used once, its upstream, and callers."""

    def __init__(self, stand: Weighbridge, upstream: Upstream, stack: AsyncExitStack) -> None:
        self.stand = stand
        self.upstream = upstream
        self.key = stand.key()
        self._stack = stack

    async def call(self, count: int, body: bytes, *targets: str, window: int = 256 * KB) -> list[Caller]:
        """Sends as many calls; returns when all have come to the upstream. Nobody reads an answer yet."""
        before, callers = self.upstream.arrived, []
        while len(callers) < count:
            new = [await self._stack.enter_async_context(caller(self.stand, window)) for _ in range(TOGETHER)]
            new = new[: count - len(callers)]
            callers += new
            whither = itertools.cycle(targets or (SINGLE,))
            await asyncio.gather(*(one.post(self.stand, self.key, next(whither), body) for one in new))
            while self.upstream.arrived < before + len(callers):
                await asyncio.sleep(0.005)
        return callers


@asynccontextmanager
async def scene(folder: Path, tls: bool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A fresh process each: what an earlier one was given and keeps would hide what it needs."""
    folder.mkdir(exist_ok=True)
    security = None
    if tls:
        security = make_security(folder)
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "localhost.pem"))
    upstream = Upstream()
    async with serving(upstream, security, seconds=sized(60, 900)) as origin, AsyncExitStack() as stack:
        settings = {"upstreams": {"max_connections": 4000}}
        with weighbridge(folder, origin.url, settings) as stand:
            scene = Scene(stand, upstream, stack)
            (first,) = await scene.call(1, picture(100 * KB))
            assert await first.rest() > 100 * KB
            try:
                yield scene
            finally:
                upstream.release.set()
                await asyncio.to_thread(stand.stop)  # it waits for its calls, and they for the upstream in this loop


async def stalled(footprint: Footprint) -> None:
    """Returns when nothing comes in any more: all that lies between upstream and callers is full."""
    before = -1
    while before != (before := footprint.received()):
        await asyncio.sleep(0.5)


async def test_pictures_pass_through_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof) -> None:
    """30 of 20 MB or 4 of 60 MB at once add 30 MB at most, though nobody reads before everything has come to a halt."""
    cases = list(itertools.product((False, True), (False, True), ((30, 20 * MB), (4, 60 * MB))))
    for tls, late, (whole, size) in cases[:: sized(3, 1)]:
        count = sized(max(2, whole // 4), whole)
        async with scene(tmp_path / f"{tls}-{late}-{whole}", tls, monkeypatch) as on:
            footprint = Footprint(on.stand)
            window = SLOW_WINDOW if late else 256 * KB
            callers = await on.call(count, picture(size), SINGLE, EVENTS, ARRAY, window=window)
            if late:
                await stalled(footprint)
            received = await asyncio.gather(*(one.rest() for one in callers))
            assert all(size < each < size * 1.01 + KB for each in received)
            assert footprint.peak <= 30 * MB * count // whole
            written = [(record.images, record.total_token_count) for record in on.stand.records()]
            assert written == [(1, 1129)] * (1 + count)
            how = (
                f"{count} of {size // MB} MB, {'over TLS' if tls else 'plain'}, {'halted' if late else 'read at once'}"
            )
            proof(**{how: f"+{footprint.peak / MB:.1f} MB"})


async def test_pictures_asked_for_in_openais_shape_stay_in_the_pool_or_go_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    """Answers are held whole: 30 by one project take half the pool, 128 MB, and then files, of which those that are
    being read and a window each of the others are in memory."""
    count = sized(16, 30)
    for size in (3 * MB, 20 * MB):
        body = b'{"model":"gemini-3-pro-image","prompt":"{\\"picture\\": %d}"}' % size
        async with scene(tmp_path / str(size), False, monkeypatch) as on:
            footprint = Footprint(on.stand)
            callers = await on.call(count, body, "/v1/images/generations", window=SLOW_WINDOW)
            await stalled(footprint)
            received = await asyncio.gather(*(one.measured() for one in callers))
            assert all(size < each < size + KB for each in received)
            grown = min(count * size, 128 * MB) * 9 // 8  # a bytearray has room for some more
            being_read = (0 if count * size <= 128 * MB else READ_AT_ONCE * size) + count * 2 * MB
            assert footprint.peak <= grown + being_read
            records = on.stand.records()
            assert [(record.images, record.total_token_count) for record in records] == [(1, 1129)] * (1 + count)
            async with asyncio.timeout(30):  # the last bytes are here before their file is closed there
                while footprint.spooled():
                    await asyncio.sleep(0.05)
            proof(**{f"{count} of {size // MB} MB": f"+{footprint.peak / MB:.1f} MB"})


async def test_slow_streams_are_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof) -> None:
    """200 streams of 3 MB whose readers halt add 120 MB at most; so do as many of 20 MB."""
    count = sized(60, 200)
    for tls, size in itertools.product((False, True), (3 * MB, 20 * MB)[: sized(1, 2)]):
        async with scene(tmp_path, tls, monkeypatch) as on:
            footprint = Footprint(on.stand)
            callers = await on.call(count, picture(size), EVENTS, window=SLOW_WINDOW)
            await stalled(footprint)
            received = await asyncio.gather(*(one.rest() for one in callers))
            assert all(size < each < size * 1.01 + KB for each in received)
            assert footprint.peak <= 120 * MB * count // 200
            how = f"{count} of {size // MB} MB, {'over TLS' if tls else 'plain'}"
            proof(**{how: f"+{footprint.peak / MB:.1f} MB, {footprint.peak // KB // count} KB each"})


async def test_a_call_in_flight_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof) -> None:
    """2,000 that wait for an answer, or for the next event of a stream, take at most 25 KB each, with TLS 64 KB."""
    count = sized(400, 2000)
    cases = list(itertools.product((False, True), (b"think", b"event")))
    for tls, asked in cases[:: sized(3, 1)]:
        async with scene(tmp_path, tls, monkeypatch) as on:
            footprint = Footprint(on.stand)
            callers = await on.call(count, b'{"%b": true}' % asked, EVENTS)
            if asked == b"event":
                heads = await asyncio.gather(*(one.head() for one in callers))
                assert all(head.startswith(b"HTTP/1.1 200") for head in heads)
            each = footprint.peak / KB / count
            assert each <= (64 if tls else 25)
            how = f"{'over TLS' if tls else 'plain'}, {'no answer yet' if asked == b'think' else 'between events'}"
            proof(calls=count, **{how: f"{each:.1f} KB each"})


def spooled(process: Path) -> list[str]:
    """The files of bodies that a process has open."""
    found = []
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed meanwhile
            found.append(str(descriptor.readlink()))
    return [file for file in found if "spool" in file]


async def test_uploads_stay_in_the_pool_or_go_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    """Of 30 request bodies of 20 MB by one project half the pool, 128 MB, is in memory, beside a window each."""
    count, size = sized(8, 30), 20 * MB
    data = b"A" * size
    body = b'{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"%b"}}]}],"picture":1000}' % data
    async with scene(tmp_path, False, monkeypatch) as on:
        footprint = Footprint(on.stand)
        callers = await on.call(count, body)
        assert all(await asyncio.gather(*(one.rest() for one in callers)))
        peak = footprint.peak
        assert 100 * MB < peak <= 128 * MB + count * 5 * MB // 2
        assert not list((on.stand.data_dir / "spool").glob("*"))
        await asyncio.to_thread(until, lambda: not spooled(footprint.proc), "no body's file is open")
        proof(
            uploads=count,
            bytes_each=size,
            added_mb=round(peak / MB, 1),
            kept_mb=round(footprint.kept / MB, 1),
        )
