"""A client that leaves at any step of a call: what goes up, what it costs, and what is left behind."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.billing.records import UsageRecord
from tests.journeys.raw import Asked, Caller, call, judged, origin, request, reset, settled
from tests.journeys.test_broken_upstream import ERRORS, SHAPES, Shape, expected, framed
from tests.journeys.test_broken_upstream import Case as Broken
from tests.journeys.watching import DEADLINE_S, TEXT, in_flight, locked, open_leases
from tests.proof import Proof, sized
from tests.stand import Weighbridge, weighbridge

pytestmark = pytest.mark.anyio

BASE = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
AT_ONCE = 24
WAYS = "close", "reset", "half-close"
BUSY = 40
COUNTED = Shape("countTokens", b'{"totalTokens": 2}')
ANSWERS = [SHAPES[0], SHAPES[2], SHAPES[3], ERRORS[2], COUNTED]


class Case(NamedTuple):
    """A client that leaves in this way once the upstream has sent so many bytes of its answer."""

    shape: Shape
    framed_by: str
    way: str
    breaks: bool
    """The upstream leaves, too, and doesn't send the rest."""
    raw: bytes
    cut: int


def cases(step: int) -> Iterator[Case]:
    for what in product(ANSWERS, ("length", "chunked"), WAYS, (False, True)):
        shape, framed_by, _, breaks = what
        raw = framed(shape, framed_by, "identity")
        body = raw.index(b"\r\n\r\n") + 4
        first = zlib.crc32(repr(what).encode()) % step  # not all are cut at the same bytes
        cuts = {*range(first, len(raw), step), 0, body - 1, body, len(raw) - 1}
        if not breaks:
            cuts.add(len(raw))
        for cut in sorted(cuts):
            yield Case(*what, raw, cut)


class Desk:
    """Brings each request that reaches the upstream to whoever plays its case, known by the length of its body."""

    def __init__(self) -> None:
        self._asked: dict[int, asyncio.Future[Asked]] = {}
        self._done: dict[int, asyncio.Event] = {}

    def asked(self, number: int) -> asyncio.Future[Asked]:
        return self._asked.setdefault(number, asyncio.get_running_loop().create_future())

    def done(self, number: int) -> None:
        """The upstream has said all that it will say to this request."""
        self._done.setdefault(number, asyncio.Event()).set()

    async def __call__(self, asked: Asked) -> None:
        number = len(asked.content) - len(BASE)
        self.asked(number).set_result(asked)
        await self._done.setdefault(number, asyncio.Event()).wait()


async def play(case: Case, number: int, stand: Weighbridge, key: str, desk: Desk, probe: Caller) -> None:
    caller = await call(stand.base_url)
    caller.send(request(TEXT + case.shape.verb, key, BASE + b" " * number))
    asked = await desk.asked(number)
    asked.say(case.raw[: case.cut])
    if case.cut == len(case.raw):
        await caller.holds(lambda came: judged(came).complete)
    await settled(probe)
    await caller.leave(case.way)
    await settled(probe)
    if case.breaks:
        reset(asked.writer.transport)
    elif case.shape is COUNTED and case.cut < len(case.raw):
        await asked.left()
    else:
        asked.say(case.raw[case.cut :])
    desk.done(number)
    seen = judged(bytes(caller.came), reset=True)
    assert case.shape.plain.startswith(seen.body)
    assert seen.complete == (case.cut == len(case.raw)), "only a whole response looks whole"


async def all_over(stand: Weighbridge) -> None:
    """Waits until no call is under way; then no lease is left."""
    async with asyncio.timeout(DEADLINE_S):
        while await asyncio.to_thread(in_flight, stand.admin_url):
            await asyncio.sleep(0.01)
    assert open_leases(stand.data_dir) == 0


def check(case: Case, records: list[UsageRecord]) -> None:
    if case.shape is COUNTED:
        assert records == []
        return
    (record,) = records
    ends_at = case.cut if case.breaks else len(case.raw)
    right = expected(Broken(case.shape, case.framed_by, "identity", "reset", "HTTP/1.1", case.raw, ends_at))
    gone = right.outcome == "ok" and case.cut < len(case.raw)
    assert record.outcome == ("client_gone" if gone else right.outcome)
    assert record.estimated == (right.outcome == "truncated")
    assert (record.http_status, record.response_bytes) == (right.http_status, right.came)
    assert record.total_token_count == right.total
    assert bool(record.cost_usd) == (right.outcome != "upstream_error")
    if not record.estimated and record.cost_usd:
        assert record.cost_usd == 3 * 750 + 5 * 3750


def by_number(records: list[UsageRecord]) -> dict[int, list[UsageRecord]]:
    found: dict[int, list[UsageRecord]] = {}
    for record in records:
        found.setdefault(record.request_bytes - len(BASE), []).append(record)
    return found


async def test_a_client_that_leaves_at_any_byte_of_the_answer(tmp_path: Path, proof: Proof) -> None:
    """The upstream is read to its end, and the bill is what it reported, or what was seen where it broke off as well; a
    free call ends with its client."""
    every, desk = list(cases(sized(97, 1))), Desk()
    numbers = iter(range(len(every)))
    async with origin(desk) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            key = stand.key()

            async def some() -> None:
                probe = await call(stand.base_url)
                for number in numbers:
                    await play(every[number], number, stand, key, desk, probe)
                probe.transport.close()

            await asyncio.gather(*[some() for _ in range(AT_ONCE)])
            await all_over(stand)
            found = by_number(stand.records())
    assert len(upstream.asked) == len(every), "each went up whole, once"
    dropped = sum(case.breaks or case.shape is COUNTED for case in every)
    assert upstream.connections <= AT_ONCE + dropped, "what was read to its end serves the next call"
    for number, case in enumerate(every):
        try:
            check(case, found.get(number, []))
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"{case}\nrecorded {found.get(number)}") from error
    proof(calls=len(every), ways=len(WAYS), billed=len(found), free=len(every) - len(found))


def unfinished(key: str) -> dict[str, bytes]:
    """Requests that end too early, by where."""
    whole = request(TEXT + "generateContent", key, BASE)
    head = whole[: -len(BASE)]
    chunked = head.replace(b"Content-Length: %d" % len(BASE), b"Transfer-Encoding: chunked")
    return {
        "nothing": b"",
        "in the request line": head[:20],
        "in a header": head[: len(head) // 2],
        "before the head's last byte": head[:-1],
        "after the head": head,
        "in the body": whole[:-1],
        "before a chunk": chunked,
        "in a chunk": chunked + b"%x\r\n%b" % (len(BASE), BASE[:9]),
        "after the last byte, before the last chunk": chunked + b"%x\r\n%b\r\n" % (len(BASE), BASE),
        "in the last chunk": chunked + b"%x\r\n%b\r\n0\r\n\r" % (len(BASE), BASE),
    }


async def test_a_client_that_leaves_before_its_request_is_whole_costs_nothing_and_nothing_goes_up(
    tmp_path: Path,
) -> None:
    desk = Desk()
    async with origin(desk) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            probe = await call(stand.base_url)
            for (where, part), way in product(unfinished(stand.key()).items(), WAYS):
                caller = await call(stand.base_url)
                caller.send(part)
                await settled(probe)
                await caller.leave(way)
                assert judged(bytes(caller.came), reset=True).status == 0, where
            probe.transport.close()
            await all_over(stand)
            assert (upstream.connections, upstream.asked, stand.records()) == (0, [], [])


async def test_a_client_that_leaves_before_its_lease_is_committed_costs_nothing(tmp_path: Path) -> None:
    async with origin(Desk()) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            key, probe = stand.key(), await call(stand.base_url)
            with locked(stand.data_dir / "ledger/0.db"):
                for way in WAYS:
                    caller = await call(stand.base_url)
                    caller.send(request(TEXT + "generateContent", key, BASE))
                    await settled(probe)
                    await caller.leave(way)
                    await settled(probe)
            probe.transport.close()
            await all_over(stand)
            assert (upstream.connections, stand.records()) == (0, [])


async def test_a_client_that_leaves_while_it_waits_for_a_connection_costs_nothing(tmp_path: Path) -> None:
    """All of an upstream's connections are busy."""
    desk = Desk()
    async with origin(desk) as upstream:
        with weighbridge(tmp_path, upstream.base_url, {"upstreams": {"max_connections": BUSY}}) as stand:
            key, probe = stand.key(), await call(stand.base_url)
            busy = [await call(stand.base_url) for _ in range(BUSY)]
            for number, caller in enumerate(busy, 1):
                caller.send(request(TEXT + "countTokens", key, BASE + b" " * number))
            await asyncio.gather(*[desk.asked(number) for number in range(1, BUSY + 1)])
            for way in WAYS:
                waiting = await call(stand.base_url)
                waiting.send(request(TEXT + "generateContent", key, BASE))
                await settled(probe)
                await waiting.leave(way)
                await settled(probe)
            for number in range(1, BUSY + 1):
                desk.done(number)
                (await desk.asked(number)).say(framed(COUNTED, "length", "identity"))
            for caller in busy:
                await caller.holds(lambda came: judged(came).complete)
                caller.transport.close()
            probe.transport.close()
            await all_over(stand)
            assert (len(upstream.asked), stand.records()) == (BUSY, [])


async def test_a_client_that_leaves_as_soon_as_it_has_asked_is_billed_if_its_call_went_up(tmp_path: Path) -> None:
    async def answering(asked: Asked) -> None:
        asked.say(framed(SHAPES[0], "length", "identity"))

    async with origin(answering) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            key, probe = stand.key(), await call(stand.base_url)
            for number in range(90):
                caller = await call(stand.base_url)
                caller.send(request(TEXT + "generateContent", key, BASE + b" " * number))
                await caller.leave(WAYS[number % 3])
            await settled(probe)
            probe.transport.close()
            await all_over(stand)
            records = stand.records()
    assert sorted(len(asked.content) for asked in upstream.asked) == sorted(record.request_bytes for record in records)
    assert {record.outcome for record in records} <= {"client_gone", "ok"}
    assert {(record.estimated, record.total_token_count) for record in records} <= {(False, 8)}


async def test_a_client_that_sent_much_is_seen_to_leave_as_well(tmp_path: Path) -> None:
    """Reading from it pauses while its body waits to be taken in; it goes on, else nobody would see it leave."""
    desk = Desk()
    async with origin(desk) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            key, probe = stand.key(), await call(stand.base_url)
            sizes = 300_000, 600_000, 3_000_000
            for number, (size, way, verb) in enumerate(product(sizes, WAYS, ("generateContent", "countTokens"))):
                number += size
                caller = await call(stand.base_url)
                caller.send(request(TEXT + verb, key, BASE + b" " * number))
                asked = await desk.asked(number)
                await settled(probe)
                await caller.leave(way)
                await settled(probe)
                if verb == "countTokens":
                    async with asyncio.timeout(DEADLINE_S):
                        await asked.left()
                asked.say(framed(SHAPES[0], "length", "identity"))
                desk.done(number)
            probe.transport.close()
            await all_over(stand)
            assert [record.outcome for record in stand.records()] == ["client_gone"] * 9
