"""Each request leaves one line: who asked for what, what became of it, what it cost. Successes are sampled."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from proxy.billing.records import UsageRecord
from proxy.errors import CallerErred, ProxyRefused, Reason
from proxy.gateway.access import Access
from proxy.gateway.client import Client
from proxy.gemini import calls
from proxy.telemetry import lines
from tests.pages import ROOT, chapter_of, table_of

CALL = calls.parse("POST", b"/v1beta/models/gemini-3.8-flash:generateContent", b"")
KEY = "wb_0123456789abcdefghijABCDEFGHIJ01abcdef"


async def nobody(message: object) -> None:
    pass


def request(request_id: str = "id-1", *, gone: bool = False, told_of: bool = False) -> Client:
    door = SimpleNamespace(request_id=request_id, gone=gone, told_of=told_of)
    return Client({"extensions": {"weighbridge": door}}, nobody, began=0.0)


def answered(**differs: Any) -> Client:
    client = request()
    client.asks(CALL)
    client.project, client.key_name, client.status, client.upstream = "alice", "ci", 200, "google"
    for name, value in differs.items():
        setattr(client, name, value)
    return client


def record(**differs: Any) -> UsageRecord:
    fields: dict[str, Any] = {
        "record_id": "r",
        "request_id": "id-1",
        "started_at": 0,
        "project": "alice",
        "key_id": "k",
        "key_name": "ci",
        "upstream": "google",
        "operation": "generateContent",
        "model": "m",
        "model_asked": "m",
        "period": "2026-11-22",
        "outcome": "ok",
        "cost_usd": 1_500_000,
        "first_byte_ms": 12,
        "rates": {"input_text": (10, 1), "cached_text": (5, 1), "output_text": (7, 1), "search": (2, 1)},
    }
    return UsageRecord(**fields | differs)


def told(client: Client, seconds: float = 0.0345, **settings: Any) -> dict[str, Any] | None:
    with structlog.testing.capture_logs() as said:
        Access(**settings).tell(client, seconds)
    assert len(said) <= 1
    return {name: value for name, value in said[0].items() if name != "log_level"} if said else None


def test_a_call_is_told_whole() -> None:
    assert told(answered(records=[record()])) == {
        "event": "call",
        "request_id": "id-1",
        "project": "alice",
        "key": "ci",
        "operation": "generateContent",
        "model": "gemini-3.8-flash",
        "upstream": "google",
        "status": 200,
        "outcome": "ok",
        "input_tokens": 15,
        "output_tokens": 7,
        "cost_usd": "0.0015",
        "first_byte_ms": 12,
        "ms": 34,
    }


def test_a_request_of_several_calls_is_told_by_their_sums() -> None:
    """The outcome is that of the first which didn't end well; a cost isn't told where one of them has no price."""
    records = [record(images=1), record(images=2, upstream="other", outcome="truncated", estimated=True)]
    line = told(answered(records=records)) or {}
    assert (line["upstream"], line["outcome"], line["images"], line["cost_usd"]) == (
        "google,other",
        "truncated",
        3,
        "0.003",
    )
    assert (line["input_tokens"], line["output_tokens"], line["estimated"]) == (30, 14, True)
    assert "cost_usd" not in (told(answered(records=[record(), record(cost_usd=None)])) or {})


def test_a_refusal_is_told_with_its_reason_and_its_sentence() -> None:
    refused = ProxyRefused(Reason.BUDGET_EXCEEDED, "Nothing is left.")
    line = told(answered(refusal=refused, status=429, upstream="")) or {}
    assert (line["outcome"], line["refused"], line["why"]) == ("refused", "BUDGET_EXCEEDED", "Nothing is left.")
    assert "upstream" not in line


@pytest.mark.parametrize(
    ("client", "outcome"),
    [
        (answered(status=0), "unsettled"),
        (answered(status=404), "upstream_error"),
        (answered(refusal=ProxyRefused(Reason.UPSTREAM_UNREACHABLE, "It broke off.")), "truncated"),
        (request(gone=True), "client_gone"),
        (answered(records=[record(outcome="upstream_error")], status=502), "upstream_error"),
    ],
)
def test_what_went_wrong_is_told_where_no_success_is(client: Client, outcome: str) -> None:
    line = told(client, sample_successes=0.0)
    assert line is not None
    assert line["outcome"] == outcome


def test_successes_are_sampled_by_the_requests_id() -> None:
    """The same request is told by all or by none; of many, about the part that was asked for."""
    access = Access(sample_successes=0.25)
    ids = [f"0192f0c1-7c3a-7abc-9def-0000{number:08x}" for number in range(4000)]
    sampled = [name for name in ids if access.samples(name)]
    assert 800 < len(sampled) < 1200
    for name, expected in ((sampled[0], True), (next(each for each in ids if each not in sampled), False)):
        client = request(name)
        client.status = 200
        assert (told(client, sample_successes=0.25) is not None) is expected
    assert told(answered(), sample_successes=0.0) is None
    assert told(answered(records=[record()], refusal=CallerErred(Reason.RATE_LIMITED, "x")), sample_successes=0.0)
    assert all(Access().samples(name) for name in ids)


def test_what_the_door_has_told_is_not_told_twice_and_nothing_where_nothing_is_wanted() -> None:
    assert told(request(told_of=True)) is None
    assert told(answered(), told=False) is None
    with structlog.testing.capture_logs() as said:
        Access(told=False).tell_refused(CallerErred(Reason.BAD_REQUEST, "x"), "id-1")
    assert said == []


def test_what_is_refused_before_it_is_a_request_is_told_too() -> None:
    with structlog.testing.capture_logs() as said:
        Access(sample_successes=0.0).tell_refused(CallerErred(Reason.BAD_REQUEST, f"what is {KEY}?"), "id-1")
    (line,) = said
    assert (line["event"], line["request_id"], line["status"], line["outcome"]) == ("call", "id-1", 400, "refused")
    assert (line["refused"], line["why"]) == ("BAD_REQUEST", f"what is {KEY}?")  # redacted where it is written


def test_what_a_caller_chooses_makes_no_long_line_and_no_other() -> None:
    """What a refusal repeats of it may be as long as a request's head, and hold anything; a model's name can't."""
    asked = "x" * 50_000 + "\n\x1b[2J" + KEY
    refused = CallerErred(Reason.BAD_REQUEST, f"{asked} is nothing. " + "y" * 50_000)
    line = told(answered(refusal=refused, status=400)) or {}
    written = lines.as_json(lines.encoded(line))
    assert len(written) < 2000
    assert written.count(b"\n") == 1
    assert b"\x1b" not in written
    assert KEY.encode() not in written
    assert json.loads(written)["refused"] == "BAD_REQUEST"


def test_every_field_is_documented() -> None:
    """docs/logs.md says of each what it is."""
    source = (ROOT / "proxy" / "gateway" / "access.py").read_text("utf-8")
    fields = set(re.findall(r'fields\["(\w+)"\]', source)) | set(re.findall(r'"(\w+)": ', source))
    rows = table_of(chapter_of("docs/logs.md", "The access line")).values()
    assert fields == {name for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}
