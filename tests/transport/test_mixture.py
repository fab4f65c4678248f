"""Thousands of calls with every outcome at once: each ends rightly, none gets another's bytes, nothing stays behind."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.round_trip import RoundTrip
from proxy.upstreams.transport import Request, Timeouts
from tests.proof import Proof, sized
from tests.transport.counts import back_to, counts, objects
from tests.transport.playing import ACTS, AT_ONCE, FATAL, SLOW, Stage, answer_and_reset_idle, content, playing_upstream
from tests.transport.test_fuzz import SEED
from tests.upstreams.origin import Security, make_security

pytestmark = pytest.mark.anyio

PLACES, CALLERS = 8, 24
"""Connections at most, and calls at a time: most of them wait."""
BIG = bytes(3_000_000)
"""What an upstream doesn't wait for the end of."""
AFTERWARDS = 10**9
"""A number beyond those of the calls."""
OFTEN = [name for name, act in ACTS.items() if act not in SLOW]
SELDOM = [name for name, act in ACTS.items() if act in SLOW]


class Mixture:
    """Calls with outcomes at random, and what became of them."""

    def __init__(self, chance: random.Random, transport: Http11Transport, stage: Stage) -> None:
        self.chance = chance
        self.transport = transport
        self.stage = stage
        self.calls = 0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.failed: dict[int, Sent] = {}

    async def make(self, calls: int) -> None:
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._call_on(calls))

    async def _call_on(self, calls: int) -> None:
        """One call after another; some are cancelled, wherever they are by then."""
        while self.calls < calls:
            self.calls += 1
            name = self.chance.choice(OFTEN if self.chance.random() < 0.997 else SELDOM)
            calling = asyncio.get_running_loop().create_task(self._call(self.calls, name))
            try:
                if self.chance.random() < 0.1:
                    await asyncio.sleep(self.chance.choice((0, 0, 0.001, 0.003, 0.01)))
                    calling.cancel()
                await asyncio.wait((calling,))
            finally:
                calling.cancel()
            self.outcomes["cancelled" if calling.cancelled() else calling.result()] += 1

    async def _call(self, call: int, name: str) -> str:
        body = BIG if ACTS[name] in AT_ONCE else bytes(self.chance.choice((0, 2, 40_000)))
        sent = self._pieces(body) if self.chance.random() < 0.2 else body
        head = [(b"host", b"h"), (b"content-length", b"%d" % len(body))]
        announced: list[bool] = []
        try:
            request = Request(b"POST", b"/%d/%b" % (call, name.encode()), head, sent)
            with contextlib.closing(await self.transport.send(request, lambda: announced.append(True))) as response:
                return await self._read(call, name, response)
        except UpstreamFailed as failure:
            return self._failed(call, name, failure, announced)

    async def _pieces(self, body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]
            await asyncio.sleep(0)

    async def _read(self, call: int, name: str, response: RoundTrip) -> str:
        early = ACTS[name] in AT_ONCE
        expected = b"no" if early else content(call)
        assert response.status == (413 if early else 200)
        leaves, came = self.chance.random() < 0.05, b""
        while not response.complete:
            if leaves:
                return "left"
            if self.chance.random() < 0.1:
                await asyncio.sleep(0.001)
            came += await response.read()
            assert expected.startswith(came), f"bytes of another: call {call}, {name}"
        assert came == expected
        assert ACTS[name] not in FATAL
        return "early" if early else "whole"

    def _failed(self, call: int, name: str, failure: UpstreamFailed, announced: list[bool]) -> str:
        """What it was, where it may have been that."""
        self.failed[call] = failure.sent
        assert bool(announced) is (failure.sent is not Sent.NOTHING), failure
        if failure.sent is Sent.NOTHING:
            assert "(pool)" in failure.message
            return "no place"
        if failure.reason is Reason.UPSTREAM_TIMEOUT:
            assert ACTS[name] in SLOW, failure
            return "timeout"
        if ACTS[name] in (*FATAL, *AT_ONCE, answer_and_reset_idle):  # a reset may overtake what it follows
            return "broken off"
        # The upstream closed a kept connection while the request was on its way to it.
        assert "without an answer" in failure.message, (name, failure)
        return "stale"

    def check(self) -> None:
        """The two accounts, the callers' and the upstream's, agree."""
        assert not self.stage.desynchronized, "a request followed one that hadn't gone up whole"
        assert max(self.stage.begun.values()) == max(self.stage.whole.values()) == 1, "a request went up twice"
        for call, sent in self.failed.items():
            assert sent is not Sent.NOTHING or not self.stage.begun[call], f"{call} had gone up, in part"
            assert sent is Sent.WHOLE or not self.stage.whole[call], f"{call} had gone up whole"


async def all_places_are_free(transport: Http11Transport) -> bool:
    """As many calls as there are places find one each; the next one waits."""
    head = [(b"host", b"h"), (b"content-length", b"0")]
    requests = [Request(b"POST", b"/%d/answer" % (AFTERWARDS + place), head, b"") for place in range(PLACES)]
    held = [await transport.send(request) for request in requests]
    waiting = asyncio.get_running_loop().create_task(transport.send(requests[0]))
    await asyncio.sleep(0)
    full = repr(transport).endswith(" 1 waiting]>")
    waiting.cancel()
    await asyncio.wait((waiting,))
    for response in held:
        response.close()
    return full


async def mix(calls: int, security: Security | None) -> dict[str, int]:
    """Makes the calls; what there were of each outcome."""
    chance, before, held = random.Random(SEED), counts(), objects()
    outcomes = await _mix(calls, chance, security)
    assert await back_to(before) == before
    assert objects() == held
    assert {"whole", "left", "cancelled", "broken off", "early"} <= set(outcomes)
    return outcomes


async def _mix(calls: int, chance: random.Random, security: Security | None) -> dict[str, int]:
    timeouts = Timeouts(pool=0.03, connect=10, write=2, first_byte=2, idle=2)
    async with playing_upstream(chance, security.server if security else None) as (stage, url):
        transport = Http11Transport(
            url,
            max_connections=PLACES,
            max_idle=PLACES // 2,
            timeouts=timeouts,
            ssl_context=security.client if security else None,
        )
        async with contextlib.aclosing(transport):
            mixture = Mixture(chance, transport, stage)
            await mixture.make(calls)
            while "0 busy" not in repr(transport):
                await asyncio.sleep(0)
            assert await all_places_are_free(transport)
        mixture.check()
    return {"calls": calls, "connections": stage.accepted, **mixture.outcomes}


async def test_calls_of_every_outcome_leave_nothing_behind(proof: Proof) -> None:
    proof(**await mix(sized(700, 25_000), None))


async def test_calls_of_every_outcome_over_tls_leave_nothing_behind(proof: Proof, tmp_path: Path) -> None:
    proof(**await mix(sized(700, 25_000), make_security(tmp_path)))
