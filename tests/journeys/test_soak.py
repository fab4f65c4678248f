"""Half an hour of mixed calls leaves nothing behind: memory, files and threads as before, every call in the ledger."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from tests.journeys.streaming import EVENTS, KB, MB, SINGLE, Footprint, Upstream, caller
from tests.journeys.watching import open_leases, until
from tests.proof import Proof, sized
from tests.stand import Weighbridge, weighbridge
from tests.upstreams.origin import make_security, serving

SECONDS = sized(12, 1800)
WARM_UP = sized(6, 180)
"""Seconds before memory is looked at: caches fill, threads start, the allocator finds its sizes."""
PAUSE = 0.1
"""Seconds between two calls of a caller; eight callers keep a third of a core busy, this test's own share included."""
CALLERS = 8
GROWTH = sized(12, 5) * MB
WAL = 16 * MB
POOL = min(32, (os.cpu_count() or 1) + 4)
"""Threads that asyncio may yet start (`asyncio.to_thread`)."""


class Load:
    """What the callers do, and how often each was done."""

    def __init__(self, stand: Weighbridge, chance: random.Random) -> None:
        self.stand = stand
        self.key = stand.key()
        self.done: Counter[str] = Counter()
        self.chance = chance
        self._kinds: list[Callable[[], Awaitable[None]]]
        self._kinds = [
            self.texts,
            self.picture,
            self.events,
            self.leave,
            self.upload,
            self.error,
            self.cut,
            self.refused,
        ]

    async def run(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            for kind in self.chance.sample(self._kinds, len(self._kinds)):
                await kind()
                self.done[kind.__name__] += 1
                await asyncio.sleep(PAUSE)

    async def texts(self) -> None:
        """Five over one connection."""
        async with caller(self.stand) as client:
            for _ in range(5):
                await client.post(self.stand, self.key, SINGLE, b'{"picture": 1000}', then="keep-alive")
                assert b"totalTokenCount" in await client.answer()

    async def picture(self) -> None:
        await self._whole(SINGLE, b'{"picture": %d}' % self.chance.randrange(MB, 4 * MB))

    async def events(self) -> None:
        await self._whole(EVENTS, b'{"picture": %d}' % self.chance.randrange(KB, MB))

    async def upload(self) -> None:
        size = self.chance.choice((10 * KB, 300 * KB, 3 * MB, 10 * MB))
        await self._whole(SINGLE, b'{"contents":[{"parts":[{"text":"%b"}]}],"picture":1000}' % (b"A" * size))

    async def leave(self) -> None:
        """Without having read the picture."""
        async with caller(self.stand, window=64 * KB) as client:
            await client.post(self.stand, self.key, SINGLE, b'{"picture": 3000000}')
            await client.head()

    async def cut(self) -> None:
        async with caller(self.stand) as client:
            await client.post(self.stand, self.key, SINGLE, b'{"cut": true}')
            assert not await client.rest()

    async def error(self) -> None:
        await self._begins(b"HTTP/1.1 503", self.key, b'{"error": true}')

    async def refused(self) -> None:
        await self._begins(b"HTTP/1.1 400", "wb_nobody", b'{"picture": 1000}')

    async def _whole(self, target: str, body: bytes) -> None:
        async with caller(self.stand) as client:
            await client.post(self.stand, self.key, target, body)
            assert await client.rest()

    async def _begins(self, status: bytes, key: str, body: bytes) -> None:
        async with caller(self.stand) as client:
            await client.post(self.stand, key, SINGLE, body)
            assert (await client.head()).startswith(status)
            await client.rest()

    @property
    def recorded(self) -> int:
        """How many of them belong in the ledger."""
        return self.done.total() + 4 * self.done["texts"] - self.done["refused"]


class Samples:
    """What was seen of the process while it worked: its memory, files, threads, the ledger's WAL."""

    def __init__(self, stand: Weighbridge) -> None:
        self._footprint = Footprint(stand)
        self._wal = stand.data_dir / "ledger" / "0.db-wal"
        self.memory: list[int] = []
        self.files = self.threads = self.wal = 0

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.memory.append(self._footprint.kept)
            self.files = max(self.files, self._footprint.files)
            self.threads = max(self.threads, self._footprint.threads)
            self.wal = max(self.wal, self._wal.stat().st_size)

    def thirds(self) -> list[float]:
        """Memory in each third of the time, its median, beside the first's."""
        third = len(self.memory) // 3
        medians = [statistics.median(self.memory[at : at + third]) for at in (0, third, 2 * third)]
        return [median - medians[0] for median in medians]


async def test_mixed_load_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof) -> None:
    """Memory is flat after warming up: no third of the time more than 5 MB above the first."""
    seed = random.SystemRandom().randrange(1 << 32) if SECONDS > 60 else 6
    print(f"seed {seed}")
    security = make_security(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "localhost.pem"))
    async with serving(Upstream(), security, seconds=SECONDS + 120) as origin:
        with weighbridge(tmp_path, origin.url) as stand:
            load = Load(stand, random.Random(seed))
            await asyncio.gather(*(load.run(WARM_UP) for _ in range(CALLERS)))
            before = Footprint(stand)
            files, threads = before.files, before.threads
            samples = Samples(stand)
            watching = asyncio.get_running_loop().create_task(samples.watch())
            await asyncio.gather(*(load.run(SECONDS - WARM_UP) for _ in range(CALLERS)))
            watching.cancel()

            await asyncio.to_thread(until, lambda: not open_leases(stand.data_dir), "every lease is settled")
            growth = samples.thirds()
            records = Counter(record.outcome for record in stand.records())
            metrics = httpx2.get(f"{stand.admin_url}/metrics").text
            proof(
                seconds=SECONDS,
                calls=dict(load.done),
                records=dict(records),
                growth_mb=[round(third / MB, 1) for third in growth],
                files=samples.files,
                threads=samples.threads,
                wal_mb=round(samples.wal / MB, 1),
                seed=seed,
            )
            assert max(growth) <= GROWTH
            assert before.files <= files + CALLERS  # connections to the upstream that are kept
            assert samples.threads <= threads + POOL
            assert records.total() == load.recorded
            assert samples.wal <= WAL
            assert "weighbridge_in_flight_requests 0.0" in metrics
            await asyncio.to_thread(stand.stop)
