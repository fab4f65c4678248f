"""An upstream that breaks off at any byte: the client sees it broken, the bill says what is known, once."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.billing.records import UsageRecord
from tests.journeys.raw import Answer, Asked, call, judged, origin, request, reset
from tests.journeys.watching import TEXT, open_leases
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


def check(case: Case, answer: Answer, record: UsageRecord, costs: Costs) -> None:
    right = expected(case)
    if right.said is None:
        assert (answer.status, answer.complete) == (502, True)
        assert answer.headers["x-weighbridge-refused"] == "UPSTREAM_UNREACHABLE"
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


@pytest.mark.proof
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
