"""Whatever an upstream answers, the record says what it is billed, and why: a corpus of cases through one process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import httpx2
import pytest

from proxy.billing import rerating
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.prices import PriceBook
from proxy.billing.record_check import faults
from proxy.billing.records import UsageRecord
from tests.journeys.caller import Broken, Caller
from tests.journeys.raw import request
from tests.journeys.ugly import cases
from tests.journeys.ugly.case import ASKED, LITE, PLAIN, PLAIN_CHARGED, Case, Charged, asking, said, single
from tests.scripted import Answer, Scripted, scripted
from tests.stand import Weighbridge, weighbridge

COUNTS = {
    "promptTokenCount": "prompt_token_count",
    "cachedContentTokenCount": "cached_content_token_count",
    "toolUsePromptTokenCount": "tool_use_prompt_token_count",
    "thoughtsTokenCount": "thoughts_token_count",
    "candidatesTokenCount": "candidates_token_count",
    "totalTokenCount": "total_token_count",
}


class Stand(NamedTuple):
    bridge: Weighbridge
    upstream: Scripted
    key: str
    asked: list[Case]
    """Those whose calls have been made."""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with scripted() as upstream, weighbridge(tmp_path_factory.mktemp("ugly"), upstream.base_url) as bridge:
        yield Stand(bridge, upstream, bridge.key(), [])


def answering(case: Case) -> Answer:
    """Says it in chunks; what is broken off lacks the last one."""
    fields = ["Content-Type: application/json", "Transfer-Encoding: chunked", *case.fields]
    head = "\r\n".join([f"HTTP/1.1 {case.status} Said", *fields, "", ""]).encode()
    chunk = b"%x\r\n%b\r\n" % (len(case.body), case.body) if case.body else b""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head + chunk + (b"" if case.cut else b"0\r\n\r\n"))
        if case.cut:
            connection.shutdown(socket.SHUT_RDWR)

    return answer


def cost(charged: Charged) -> int:
    """In nano-dollars, exactly: a millionth of a dollar is a thousand."""
    exact = sum((quantity * Fraction(usd) * 1000 for quantity, usd in charged.values()), Fraction())
    return round(exact)  # half to even


def told(record: UsageRecord) -> dict[str, object]:
    """What a case says of the record."""
    return {
        "outcome": record.outcome,
        "estimated": record.estimated,
        "http_status": record.http_status,
        "usage": record.usage,
        "images": record.images,
        "searches": record.searches,
        "finish_reason": record.finish_reason,
        "service_tier": record.service_tier,
        "model_version": record.model_version,
        "rates": {name: tuple(rate) for name, rate in (record.rates or {}).items()},
        "cost_usd": record.cost_usd,
        "priced_as": record.priced_as,
        "response_bytes": record.response_bytes,
    }


def expected(case: Case) -> dict[str, object]:
    return {
        "outcome": case.outcome,
        "estimated": case.estimated,
        "http_status": case.status,
        "usage": case.usage,
        "images": case.images,
        "searches": case.searches,
        "finish_reason": case.finish,
        "service_tier": case.tier,
        "model_version": case.version,
        "rates": {
            name: (quantity, int(Fraction(usd) * 10**9) if usd else None)
            for name, (quantity, usd) in case.charged.items()
        },
        "cost_usd": None if case.unpriced else cost(case.charged),
        "priced_as": case.priced_as or (case.model if "neon" not in case.model else None),
        "response_bytes": len(case.body),
    }


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_bill(case: Case, stand: Stand) -> None:
    """The client gets every byte, or sees it broken off; the record says outcome, usage, quantities, rates and cost."""
    bridge, upstream, key, asked = stand
    upstream.answer = answering(case)
    asked.append(case)
    caller = Caller(bridge.base_url)
    caller.send(request(f"/v1beta/models/{case.model}:{case.verb}", key, case.asks))
    try:
        assert caller.read().body == case.body
        assert not case.cut
    except Broken:
        assert case.cut, "broken off"
    caller.close()
    record = bridge.records()[-1]
    assert told(record) == expected(case)
    counts = json.loads(case.usage or "{}")
    for name, column in COUNTS.items():
        count = int(counts.get(name, -1))
        assert getattr(record, column) == (None if count < 0 else count)
    for column in ("prompt_tokens_details", "candidates_tokens_details"):
        name = "promptTokensDetails" if column.startswith("prompt") else "candidatesTokensDetails"
        details = {
            one.get("modality", "MODALITY_UNSPECIFIED"): one.get("tokenCount", 0) for one in counts.get(name, ())
        }
        assert getattr(record, column) == (details if name in counts else None)
    assert list(faults(record)) == [], "as `ledger verify` sees it"


def test_each_missing_usage_is_counted(stand: Stand) -> None:
    """Of the calls that were made before, in the one process."""
    lines = httpx2.get(f"{stand.bridge.admin_url}/metrics").text.splitlines()
    counts = [float(line.split()[-1]) for line in lines if line.startswith("weighbridge_usage_missing_total{")]
    assert sum(counts) == sum(case.missing for case in stand.asked)


def test_pricing_the_corpus_anew_changes_nothing(stand: Stand) -> None:
    """What was weighed stands in each record: the same book makes the same costs of it."""
    files = ledger_files(stand.bridge.data_dir)
    made = list(rerating.rerate(files, PriceBook.load(), rerating.Selection(0, 2**62)))
    priced = [each for each in made if each.record.cost_usd is not None]
    assert len(priced) == sum(case.outcome != "upstream_error" and not case.unpriced for case in stand.asked)
    assert [(each.record.model, each.difference) for each in priced if each.difference] == []


def test_each_hop_of_a_continuation_is_a_call_of_its_own(stand: Stand) -> None:
    """An SDK goes on by itself. What joins the hops is the time and the key, and not the response's id."""
    hop = said(PLAIN, responseId="r1", continuationToken="abc")
    hop["candidates"][0]["finishReason"] = "CONTINUATION"
    stand.upstream.answer = answering(single("", hop, PLAIN_CHARGED))
    headers, url = {"x-goog-api-key": stand.key}, f"{stand.bridge.base_url}/v1beta/models/{LITE}:generateContent"
    for asks in (ASKED, asking(continuationToken="abc")):
        assert httpx2.post(url, content=asks, headers=headers).json() == hop
    first, second = stand.bridge.records()[-2:]
    assert first.request_id != second.request_id
    assert first.key_id == second.key_id
    for record in (first, second):
        assert (record.finish_reason, record.response_id) == ("CONTINUATION", "r1")
        assert record.cost_usd == 3 * 300 + 5 * 2500


UNWEIGHED = (
    f"/v1beta/models/{LITE}:batchGenerateContent",
    "/v1beta/models/gemini-embedding-2:asyncBatchEmbedContent",
    "/v1beta/models/imagen-4.0-generate:predict",
    "/v1beta/models/veo-3.1-generate:predictLongRunning",
    f"/v1beta/tunedModels/{LITE}:generateContent",
    f"/v1beta/dynamic/{LITE}:generateContent",
    "/v1beta/interactions",
    "/v1beta/cachedContents",
    "/v1beta/openai/images/edits",
    "/v1beta/openai/batches",
    "/v1beta/openai/videos",
    "/v1beta/openai/responses",
    "/v1/images/variations",
    "/v1beta/auth_tokens",
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
)


def test_what_nothing_weighs_does_not_go_up(stand: Stand) -> None:
    """Batches, interactions, Live and the like are refused, rather than served and billed nothing."""
    before = len(stand.bridge.records()), len(stand.upstream.received)
    headers = {"x-goog-api-key": stand.key}
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "x", "sec-websocket-version": "13"}
    with httpx2.Client(base_url=stand.bridge.base_url, headers=headers) as client:
        answers = [client.post(path, content=ASKED) for path in UNWEIGHED]
        answers.append(client.get(UNWEIGHED[-1], headers=upgrade))
    for answer in answers:
        assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (404, "UNKNOWN_OPERATION"), answer.url
    assert (len(stand.bridge.records()), len(stand.upstream.received)) == before


def test_no_two_cases_share_a_name() -> None:
    names = [case.name for case in cases()]
    assert len(names) == len(set(names)) > 150
