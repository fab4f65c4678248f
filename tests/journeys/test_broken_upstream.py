"""An upstream that breaks off at any byte: the client sees it broken, the bill says what is known, once."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import cycle, pairwise, product
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.billing.records import UsageRecord
from tests.journeys.raw import Answer, Asked, call, judged, origin, request, reset, settled
from tests.journeys.watching import TEXT, open_leases, until
from tests.proof import Proof, sized
from tests.stand import Weighbridge, weighbridge

pytestmark = pytest.mark.anyio

CONTENT = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
AT_ONCE = 24


def usage(total: int) -> str:
    return f'"usageMetadata":{{"promptTokenCount":3,"candidatesTokenCount":{total - 3},"totalTokenCount":{total}}}'


CANDIDATES = '"candidates":[{"content":{"parts":[{"text":"a {\\"b\\": 1}"}]}}]'
STREAMED = [f"{{{CANDIDATES},{usage(4)}}}", f"{{{CANDIDATES}}}", f"{{{CANDIDATES},{usage(8)}}}"]


class Shape(NamedTuple):
    """What an upstream says, and to which operation."""

    verb: str
    plain: bytes
    status: int = 200

    @property
    def framing(self) -> str:
        return "sse" if "sse" in self.verb else "array" if "stream" in self.verb else "single"


SHAPES = [
    Shape("generateContent", f"{{{CANDIDATES},{usage(8)}}}\n".encode()),
    Shape("generateContent", f'{{{usage(8)},{CANDIDATES},"modelVersion":"gemini-3.8-flash"}}'.encode()),
    Shape("streamGenerateContent?alt=sse", "".join(f"data: {part}\r\n\r\n" for part in STREAMED).encode()),
    Shape("streamGenerateContent", ("[" + "\n,\r\n".join(STREAMED) + "\n]").encode()),
]
ERRORS = [
    Shape(verb, json.dumps({"error": {"code": code, "message": "No.", "status": "X"}}, indent=1).encode(), code)
    for verb, code in zip(cycle(["generateContent", "streamGenerateContent?alt=sse"]), [400, 404, 429, 500, 503])
]


class Case(NamedTuple):
    """A response that ends after so many of its bytes."""

    shape: Shape
    framed_by: str
    coding: str
    ends_by: str
    client: str
    raw: bytes
    cut: int


def framed(shape: Shape, framed_by: str, coding: str) -> bytes:
    body = gzip.compress(shape.plain, mtime=0) if coding == "gzip" else shape.plain
    fields = ["Content-Type: application/json", *(["Content-Encoding: gzip"] if coding == "gzip" else [])]
    if framed_by == "length":
        fields.append(f"Content-Length: {len(body)}")
    elif framed_by == "chunked":
        fields.append("Transfer-Encoding: chunked")
        pieces = [body[start : start + 60] for start in range(0, len(body), 60)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return "\r\n".join([f"HTTP/1.1 {shape.status} Said", *fields, "", ""]).encode() + body


WAYS = [
    *product(("length", "chunked", "close"), ("identity", "gzip"), ("close", "reset"), ("HTTP/1.1",)),
    *product(("length", "chunked"), ("identity",), ("close",), ("HTTP/1.0",)),
]


def cases(shapes: list[Shape], step: int) -> Iterator[Case]:
    """Every response cut at every `step`th byte, and where heads and bodies begin and end."""
    for way in product(shapes, WAYS):
        shape, (framed_by, coding, ends_by, client) = way
        raw = framed(shape, framed_by, coding)
        body = raw.index(b"\r\n\r\n") + 4
        first = zlib.crc32(repr(way).encode()) % step  # not all are cut at the same bytes
        cuts = {*range(first, len(raw), step), 0, body - 1, body, len(raw) - 1}
        if ends_by == "close":
            cuts.add(len(raw))
        for cut in sorted(cuts):
            yield Case(shape, framed_by, coding, ends_by, client, raw, cut)


def inflated(body: bytes, coding: str) -> bytes:
    return zlib.decompressobj(31).decompress(body) if coding == "gzip" else body


def total_seen(shape: Shape, plain: bytes) -> int | None:
    """The plain oracle of what is to be billed: the total in the last usage that came whole."""
    if shape.framing == "single":
        return 8 if usage(8).encode() in plain else None
    seen = []
    if shape.framing == "sse":
        *events, _ = plain.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
        seen = [json.loads(event.removeprefix(b"data: ")) for event in events]
    else:
        text = plain.decode()
        at = text.find("{")
        while at >= 0:
            try:
                element, at = json.JSONDecoder().raw_decode(text, at)
            except ValueError:
                break
            seen.append(element)
            at = text.find("{", at)
    totals = [element["usageMetadata"]["totalTokenCount"] for element in seen if "usageMetadata" in element]
    return totals[-1] if totals else None


class Expected(NamedTuple):
    """`said`: of what the upstream sent, what a client gets to see; None where it gets a refusal of ours."""

    said: Answer | None
    outcome: str
    total: int | None
    http_status: int | None
    came: int


def expected(case: Case) -> Expected:
    came = judged(case.raw[: case.cut], reset=case.ends_by == "reset")
    if not came.status:
        return Expected(None, "truncated", None, None, 0)
    if case.shape.status >= 400:
        readable = came.complete and (case.coding == "identity" or came.body == judged(case.raw).body)
        return Expected(came if readable else None, "upstream_error", None, case.shape.status, len(came.body))
    total = total_seen(case.shape, inflated(came.body, case.coding))
    return Expected(came, "ok" if came.complete else "truncated", total, 200, len(came.body))


class Costs(NamedTuple):
    """In nano-dollars, by what three whole calls were billed."""

    by_total: dict[int | None, int | None]

    @classmethod
    def of(cls, records: list[UsageRecord]) -> Costs:
        return cls({record.total_token_count: record.cost_usd for record in records})


def check(
    case: Case,
    answer: Answer,
    record: UsageRecord,
    costs: Costs,
    refusal: tuple[int, str] = (502, "UPSTREAM_UNREACHABLE"),
) -> None:
    """`refusal`: what a client is told where nothing of the response may go down to it."""
    right = expected(case)
    if right.said is None:
        assert answer.complete
        assert (answer.status, answer.headers["x-weighbridge-refused"]) == refusal
    else:
        assert (answer.status, answer.complete) == (case.shape.status, right.said.complete)
        assert answer.body == right.said.body
    assert (record.outcome, record.http_status) == (right.outcome, right.http_status)
    assert record.response_bytes == right.came
    if right.outcome == "upstream_error":
        assert (record.cost_usd, record.estimated, record.total_token_count) == (0, False, None)
        return
    whole = right.said is not None and right.said.complete
    if not whole or right.came == len(judged(case.raw).body):  # else only its content shows that something is missing
        assert record.total_token_count == right.total
        assert record.estimated == (not whole)
    assert record.cost_usd == costs.by_total[record.total_token_count]


class Breaking:
    """An upstream that breaks off as the case says whose number stands in the request."""

    def __init__(self, every: list[Case]) -> None:
        self.every = every

    async def __call__(self, asked: Asked) -> None:
        case = self.every[int(asked.header("x-case"))]
        asked.say(case.raw[: case.cut])
        if case.ends_by == "reset":
            await asked.writer.drain()
            reset(asked.writer.transport)
        elif case.cut < len(case.raw) or case.framed_by == "close":
            asked.writer.close()


async def ask(stand: Weighbridge, key: str, case: Case, number: int) -> Answer:
    caller = await call(stand.base_url)
    fields = f"X-Case: {number}", "Connection: close"
    caller.send(request(TEXT + case.shape.verb, key, CONTENT, *fields, version=case.client))
    return await caller.answer()


async def ask_all(stand: Weighbridge, every: list[Case]) -> list[Answer]:
    numbers, key = iter(range(len(every))), stand.key()
    answers: list[Answer] = [Answer(0, {}, b"", False)] * len(every)

    async def some() -> None:
        for number in numbers:
            answers[number] = await ask(stand, key, every[number], number)

    await asyncio.gather(*[some() for _ in range(AT_ONCE)])
    return answers


def controls() -> list[Case]:
    """Calls whose costs are those of every other: whole with usage of 4 and of 8 tokens, and one without an answer."""
    whole = [Shape("generateContent", f"{{{CANDIDATES},{usage(total)}}}".encode()) for total in (4, 8)]
    raws = [framed(shape, "length", "identity") for shape in whole]
    ways = "length", "identity", "close", "HTTP/1.1"
    answered = [Case(shape, *ways, raw, len(raw)) for shape, raw in zip(whole, raws, strict=True)]
    return [*answered, answered[0]._replace(cut=0)]


async def test_an_upstream_that_breaks_off_at_any_byte(tmp_path: Path, proof: Proof) -> None:
    """Of lengths, chunks and bodies that end with their connection; plain and compressed; by a close and by a reset."""
    known = controls()
    every = known + list(cases(SHAPES + ERRORS, sized(41, 1)))
    async with origin(Breaking(every)) as upstream:
        with weighbridge(tmp_path, upstream.base_url) as stand:
            answers = await ask_all(stand, every)
            assert open_leases(stand.data_dir) == 0
        records = {record.request_id: record for record in stand.records()}
    assert len(upstream.asked) == len(records) == len(every), "each call went up once and left one record"
    found = [records[answer.headers["x-weighbridge-request-id"]] for answer in answers]
    costs = Costs.of(found[: len(known)])
    assert len(set(costs.by_total.values())) == 3
    for case, answer, record in list(zip(every, answers, found, strict=True))[len(known) :]:
        try:
            check(case, answer, record, costs)
        except AssertionError as error:
            raise AssertionError(f"{case}\nanswered {answer}\nrecorded {record}") from error
    outcomes = [record.outcome for record in found]
    proof(calls=len(every), **{outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))})


KEY = "AIzaSyD-0_9aZ" + "x" * 26


def error_event(code: int, message: str) -> bytes:
    return b"data: " + json.dumps({"error": {"code": code, "message": message, "status": "X"}}).encode() + b"\r\n\r\n"


async def midstream(tmp_path: Path, pieces: list[bytes], verb: str = SHAPES[2].verb) -> tuple[Answer, UsageRecord, str]:
    """What a client sees of a stream in these pieces, each of which has been relayed before the next is sent."""

    async def answering(asked: Asked) -> None:
        asked.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            asked.say(b"%x\r\n%b\r\n" % (len(piece), piece))
            await settled(probe)
        asked.say(b"0\r\n\r\n")
        said.set()

    said = asyncio.Event()
    async with origin(answering) as upstream:
        stand = Weighbridge(tmp_path, upstream.base_url, upstream_key=KEY)
        stand.start()
        probe, caller = await call(stand.base_url), await call(stand.base_url)
        caller.send(request(TEXT + verb, stand.key(), CONTENT, "Connection: close"))
        answer = await caller.answer()
        await said.wait()
        probe.transport.close()
        stand.stop()
        (record,) = stand.records()
        return answer, record, stand.log()


@pytest.mark.parametrize("verb", ["streamGenerateContent?alt=sse", "streamGenerateContent", "generateContent?alt=sse"])
async def test_our_key_does_not_get_through_an_error_in_mid_stream_that_comes_in_pieces(
    tmp_path: Path, verb: str
) -> None:
    """Whatever was asked for: that these are events, the response says."""
    before = SHAPES[2].plain
    error = error_event(429, f"Consumer 'api_key:{KEY}' of projects/411082643095 has no quota.")
    cuts = [
        0,
        3,
        9,
        15,
        error.index(KEY.encode()) + 7,
        error.index(KEY.encode()) + 30,
        error.index(b"082643095"),
        len(error),
    ]
    answer, record, _ = await midstream(tmp_path, [before, *[error[a:b] for a, b in pairwise(cuts)]], verb)
    assert answer.body == before + error.replace(KEY.encode(), b"REDACTED").replace(b"411082643095", b"0")
    assert answer.complete
    assert (record.outcome, record.estimated, record.total_token_count) == ("truncated", True, 8)


async def test_a_refusal_of_our_credential_in_mid_stream_breaks_the_stream_off(tmp_path: Path) -> None:
    """It would look like a refusal of the client's."""
    before = SHAPES[2].plain
    error = error_event(400, "API key not valid. Please pass a valid API key.")
    answer, record, log = await midstream(tmp_path, [before, error[:50], error[50:]])
    assert (answer.body, answer.complete) == (before + b"data: ", False)
    assert (record.outcome, record.estimated, record.total_token_count) == ("truncated", True, 8)
    assert "upstream_credential_refused" in log


async def test_an_upstream_that_answers_before_it_has_the_whole_request(tmp_path: Path) -> None:
    """Its answer counts, the rest of the request isn't sent, and its connection isn't used again."""
    content = CONTENT + b" " * (12 << 20)
    every = [(shape, whole) for shape in (SHAPES[0], ERRORS[0]) for whole in (True, False)]
    script, taken = iter(every), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        shape, whole = next(script)
        raw, came = framed(shape, "length", "identity"), len(head)
        writer.write(raw if whole else raw[:-1])
        if not whole:
            writer.write_eof()
        while piece := await reader.read(1 << 16):
            came += len(piece)
        taken.append(came)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with weighbridge(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as stand:
            key, answers = stand.key(), []
            for shape, _ in every:
                caller = await call(stand.base_url)
                caller.send(request(TEXT + shape.verb, key, content, "Connection: close"))
                answers.append(await caller.answer())
            records = stand.records()
            await asyncio.to_thread(until, lambda: len(taken) == len(every), "each connection has ended")
    assert [(answer.status, answer.complete) for answer in answers] == [
        (200, True),
        (200, False),
        (400, True),
        (502, True),
    ]
    assert [record.outcome for record in records] == ["ok", "truncated", "upstream_error", "upstream_error"]
    assert [bool(record.cost_usd) for record in records] == [True, True, False, False]
    assert [record.estimated for record in records] == [False, True, False, False]
    assert max(taken) < len(content)
