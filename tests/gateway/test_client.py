"""Whom a call waits for, marked on it as it goes: `overhead_seconds` is what it waited for us, and nothing else.

All is real but the clock, which goes on only where a script says so: while an upstream thinks or writes, a caller
sends, the limiter is asked, a commit is made.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.unpriced import Unpriced
from proxy.config.limits import parse as limit
from proxy.config.schema import Storage
from proxy.gateway.access import Access
from proxy.gateway.ended import Ended
from proxy.gateway.in_flight import free_calls
from proxy.gateway.intake import Intake
from proxy.gateway.limiting import Limits
from proxy.gateway.quotas import Quotas
from proxy.gateway.relay import Relay
from proxy.gateway.weigher import Weigher
from proxy.limits.memory import MemoryLimiter
from proxy.store.database import open_database
from proxy.telemetry.metrics import Metrics
from proxy.tenants import keys, projects
from proxy.tenants.keyring import Keyring
from proxy.upstreams.pool import Pool
from tests.billing.sample import NOON
from tests.gateway.wire import Door, Response, door, parse
from tests.upstreams.origin import Peer
from tests.upstreams.pooled import Part, Stand, error, out_of_quota
from tests.upstreams.steady import MODEL

pytestmark = pytest.mark.anyio

COMMIT_S, LIMITER_S, THINKS_S, WRITES_S, SENDS_S = 3.0, 2.0, 64.0, 512.0, 4096.0
USAGE = b'{"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2}}'


class Clock:
    """Told by all parts; seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


class SlowLimiter(MemoryLimiter):
    """As one in Redis may be."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(lambda: int(clock.now * 1000))
        self._clock = clock

    async def reserve(self, *asked: Any) -> Any:
        self._clock.passes(LIMITER_S)
        return await super().reserve(*asked)


class Served:
    """A relay behind a real door, before the upstreams of `stand`."""

    def __init__(self, opened: Door, relay: Relay, metrics: Metrics, key: str, clock: Clock) -> None:
        self._door = opened
        self._relay = relay
        self._metrics = metrics
        self._key = key
        self._clock = clock

    async def call(self, verb: str = "generateContent") -> bytes:
        """Calls, in two pieces between which time passes; all that comes down until the connection's end."""
        connection = await self._door.connect()
        head = f"POST /v1beta/models/{MODEL}:{verb} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        head += f"content-type: application/json\r\ncontent-length: 2\r\nx-goog-api-key: {self._key}\r\n\r\n"
        connection.writer.write(head.encode() + b"{")
        while not self._relay.in_flight:
            await asyncio.sleep(0.001)
        self._clock.passes(SENDS_S)
        connection.writer.write(b"}")
        return await connection.rest()

    async def answered(self, verb: str = "generateContent") -> Response:
        return parse(await self.call(verb), "POST")

    def overhead(self, operation: str = "generateContent") -> tuple[float | None, float | None]:
        """How many calls it is told of, and of how many seconds altogether."""
        value, labels = self._metrics.registry.get_sample_value, {"operation": operation}
        name = "weighbridge_overhead_seconds"
        return value(f"{name}_count", labels), value(f"{name}_sum", labels)


@asynccontextmanager
async def serving(folder: Path, clock: Clock, *scripts: Part | None) -> AsyncIterator[Served]:
    async with Stand() as stand:
        for script in scripts:
            await stand.add(script)
        stand.steady.now = clock.now
        pool, metrics = Pool(stand.upstreams, stand.health), Metrics("0", [MODEL])
        stand.attempts._monotonic, stand.attempts._metrics = clock, metrics
        database, limiter, days = open_database(Storage(data_dir=folder)), SlowLimiter(clock), Days("UTC")
        projects.create(database, "alice", NOON, actor="test", limits=(limit("rpm=1000"),))
        made = {"models": ("*",), "actor": "test"}
        key = keys.create(database, "alice", "test", NOON, secrets.randbelow, **made)[1]  # type: ignore[arg-type]
        keyring = Keyring(database, now=lambda: NOON, monotonic=clock)
        broken: list[Any] = []
        ledger = Ledger.open(
            folder,
            now_us=lambda: NOON,
            on_broken=broken.append,
            on_commit=lambda _: clock.passes(COMMIT_S),
            ballast_bytes=0,
        )
        ids = iter(range(10**6))
        weigher = Weigher(
            ledger=ledger,
            limits=Limits(limiter, days, metrics, lambda: NOON, free_calls()),
            quotas=Quotas(limiter, [], lambda: NOON),
            book=PriceBook.load(),
            days=days,
            metrics=metrics,
            unpriced=Unpriced(),
            refuse_unpriced=False,
            hold_worst=False,
            drain_after_disconnect_s=10,
            now=lambda: NOON,
            monotonic=clock,
            new_id=lambda: f"id-{next(ids)}",
        )
        relay = Relay(
            keyring=keyring,
            pool=pool,
            attempts=stand.attempts,
            intake=Intake(folder / "spool", limit=1 << 20),
            weigher=weigher,
            metrics=metrics,
            ended=Ended(metrics, Access(), clock),
            trusted_proxies=[],
            monotonic=clock,
        )
        try:
            async with door(relay) as opened:
                yield Served(opened, relay, metrics, key, clock)
        finally:
            await ledger.close()
            await keyring.close()
        assert broken == []


def thinks(clock: Clock, says: bytes, times: float = 1, *, whole: bool = True) -> Part:
    """Takes a minute for the head of its answer and longer for the rest, of which the last part may never come; or so
    many times that."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            clock.passes(times * THINKS_S)
            head, end, body = says.partition(b"\r\n\r\n")
            await peer.say(head + end + body[:1])
            clock.passes(times * WRITES_S)
            if not whole:
                peer.cut()
                return
            await peer.say(body[1:])

    return script


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(USAGE), USAGE)
BEFORE_S = LIMITER_S + COMMIT_S
"""Before a call goes up: its limits and its lease. What it is made of counts for nothing here: the clock stands."""


async def test_what_the_upstream_or_the_caller_takes_is_none_of_our_time_and_a_slow_commit_or_limiter_is(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with serving(tmp_path, clock, thinks(clock, OK)) as served:
        began = clock.now
        assert (await served.answered()).status == 200
        assert clock.now - began == SENDS_S + BEFORE_S + THINKS_S + WRITES_S + COMMIT_S
        assert served.overhead() == (1, BEFORE_S + COMMIT_S)
        assert (await served.answered("countTokens")).status == 200
        assert served.overhead("countTokens") == (1, 0), "there is nothing to wait for"


async def test_between_two_attempts_a_call_waits_for_us(tmp_path: Path) -> None:
    """The lease's row is committed again, with the other upstream's name. That one has its time, too."""
    clock = Clock()
    scripts = None, thinks(clock, out_of_quota("17s"), 1 / 64), thinks(clock, OK)
    async with serving(tmp_path, clock, *scripts) as served:
        began = clock.now
        assert (await served.answered()).status == 200
        ours = BEFORE_S + 2 * COMMIT_S + COMMIT_S
        assert clock.now - began == SENDS_S + ours + (1 + 1 / 64) * (THINKS_S + WRITES_S)
        assert served.overhead() == (1, ours)


async def test_an_error_of_the_upstream_is_an_answer_too(tmp_path: Path) -> None:
    clock = Clock()
    async with serving(tmp_path, clock, thinks(clock, error(400))) as served:
        assert (await served.answered()).status == 400
        assert served.overhead() == (1, BEFORE_S + COMMIT_S)


async def test_nothing_is_told_of_a_call_that_was_not_answered_whole(tmp_path: Path) -> None:
    """Whatever an outage of an upstream does, it doesn't look as if we had become quick, or slow."""
    clock = Clock()
    async with serving(tmp_path / "a", clock, None) as served:
        assert (await served.answered()).status == 502
        assert served.overhead() == (None, None)
    async with serving(tmp_path / "b", clock, thinks(clock, OK, whole=False)) as served:
        assert b"200" in (await served.call()).partition(b"\r\n")[0]
        assert served.overhead() == (None, None)
