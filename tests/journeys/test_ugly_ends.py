"""Pictures that break off at any byte, or whose client leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.billing.records import UsageRecord
from tests.journeys.raw import Asked, call, judged, origin, request, settled
from tests.journeys.ugly.case import (
    ASKED,
    BROKEN,
    EVENTS,
    IMAGE,
    ONE,
    ONE_CHARGED,
    SINGLE,
    Charged,
    candidate,
    charge,
    compact,
    events,
    picture,
    response,
    said,
    usage,
)
from tests.journeys.watching import DEADLINE_S, open_leases
from tests.stand import Weighbridge, weighbridge

pytestmark = pytest.mark.anyio

AT_ONCE = 24
ESTIMATE = charge(IMAGE, input_text=10, output_image=1120, output_text=400)
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def charged(record: UsageRecord) -> dict[str, tuple[int, int | None]]:
    return {name: tuple(rate) for name, rate in (record.rates or {}).items()}


def in_nano_dollars(rates: Charged) -> dict[str, tuple[int, int]]:
    return {name: (quantity, round(float(usd) * 10**9)) for name, (quantity, usd) in rates.items()}


def of_single(came: bytes) -> Charged:
    """What is to be charged of so much of a single response."""
    return ONE_CHARGED if compact(ONE).encode() in came else ESTIMATE


def of_events(came: bytes) -> Charged:
    """What is to be charged of so much of three events: a usage of the prompt, a picture, the whole usage."""
    whole = came.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n\n")
    prompt = charge(IMAGE, input_text=9)
    return [ESTIMATE, prompt, prompt | charge(IMAGE, output_image=1120), ONE_CHARGED][whole]


STREAM = [{"usageMetadata": usage(9, 0)}, response(candidate(picture(), finish=None)), said(ONE)]
BODIES = {SINGLE: compact(said(ONE, picture())).encode(), EVENTS: events("", STREAM, {}).body}
OF = {SINGLE: of_single, EVENTS: of_events}


async def test_a_picture_broken_off_at_every_byte(tmp_path: Path) -> None:
    """Charged is the usage where it had come, else the estimate, and never less than the pictures that had."""
    every = [(verb, cut) for verb, body in BODIES.items() for cut in range(len(body) + 1)]
    numbers = iter(range(len(every)))
    found: dict[int, str] = {}

    async def breaking(asked: Asked) -> None:
        verb, cut = every[int(asked.header("x-case"))]
        body = BODIES[verb][:cut]
        asked.say(CHUNKED + (b"%x\r\n%b\r\n" % (cut, body) if cut else b""))
        asked.writer.close()

    async with origin(breaking) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            key = stand.key()

            async def some() -> None:
                for number in numbers:
                    verb, cut = every[number]
                    caller = await call(stand.base_url)
                    path = f"/v1beta/models/{IMAGE}:{verb}"
                    caller.send(request(path, key, ASKED, f"X-Case: {number}", "Connection: close"))
                    answer = await caller.answer()
                    assert (answer.body, answer.complete) == (BODIES[verb][:cut], False)
                    found[number] = answer.headers["x-weighbridge-request-id"]

            await asyncio.gather(*[some() for _ in range(AT_ONCE)])
            assert open_leases(stand.data_dir) == 0
            records = {record.request_id: record for record in stand.records()}
    assert len(records) == len(found) == len(every) > 800
    for number, (verb, cut) in enumerate(every):
        record = records[found[number]]
        assert (record.outcome, record.estimated) == (BROKEN["outcome"], True)
        assert charged(record) == in_nano_dollars(OF[verb](BODIES[verb][:cut])), (verb, cut)


async def over(stand: Weighbridge, calls: int) -> list[UsageRecord]:
    async with asyncio.timeout(DEADLINE_S):
        while len(stand.records()) < calls:
            await asyncio.sleep(0.01)
    return stand.records()


async def test_a_picture_whose_client_leaves_is_billed_as_google_reports_it(tmp_path: Path) -> None:
    """Before its first byte, in its midst, before its last byte; as one response and as events."""
    large = said(ONE, picture(300_000))
    bodies = {SINGLE: compact(large).encode(), EVENTS: events("", [STREAM[0], large], {}).body}
    cases = [(verb, way, part) for verb in bodies for way in ("close", "reset", "half-close") for part in (0, 0.5, 1)]
    asked: asyncio.Queue[tuple[Asked, asyncio.Event]] = asyncio.Queue()

    async def answering(came: Asked) -> None:
        done = asyncio.Event()
        asked.put_nowait((came, done))
        await done.wait()

    async with origin(answering) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            key, probe = stand.key(), await call(stand.base_url)
            for verb, way, part in cases:
                raw = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(bodies[verb]), bodies[verb])
                cut = int((len(raw) - 1) * part)
                caller = await call(stand.base_url)
                caller.send(request(f"/v1beta/models/{IMAGE}:{verb}", key, ASKED))
                came, done = await asked.get()
                came.say(raw[:cut])
                await settled(probe)
                await caller.leave(way)
                await settled(probe)
                came.say(raw[cut:])
                done.set()
                assert not judged(bytes(caller.came), reset=True).complete
            probe.transport.close()
            records = await over(stand, len(cases))
    assert len(records) == len(cases)
    for case, record in zip(cases, records, strict=True):
        assert (record.outcome, record.estimated, record.images) == ("client_gone", False, 1), case
        assert charged(record) == in_nano_dollars(ONE_CHARGED), case
