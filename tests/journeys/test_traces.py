"""Traces of a whole server, as a collector gets them: what spans there are, what is in them, and what never is."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import httpx2
import pytest

from proxy.billing.records import to_usd
from proxy.telemetry import genai_names
from tests.journeys.drawing import client as openai_client
from tests.journeys.pooled import quota, response
from tests.journeys.traced import PARENT, SPAN, TRACE, id_of, went_up
from tests.journeys.watching import PICTURE, TEXT, body, connect
from tests.scripted import Scripted, says, scripted
from tests.stand import Weighbridge
from tests.telemetry.otlp_receiver import SOON, Receiver, receiving

SECRET = "xyzzy-the-collectors-own"


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


class Pool(NamedTuple):
    """Upstreams of one project: the first is out of quota, to the second there is no way, the third answers."""

    first: Scripted
    third: Scripted
    settings: list[dict[str, object]]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    usage = b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":2,"totalTokenCount":5}}'
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with scripted(says(quota("17s"))) as first, scripted(says(response(200, usage))) as third:
        ways = {"first": first.base_url, "away": away, "third": third.base_url}
        settings: list[dict[str, object]] = [
            {"name": name, "base_url": url, "priority": at, "projects": ["pooled"]}
            for at, (name, url) in enumerate(ways.items())
        ]
        yield Pool(first, third, settings)


@pytest.fixture(scope="module")
def stand(
    upstream: str, collector: Receiver, pool: Pool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Weighbridge]:
    """A server that sends its spans to that collector."""
    settings = {
        "tracing": {"otlp_endpoint": collector.base_url, "headers_env": "COLLECTOR"},
        "upstreams": [{"name": "emulator", "projects": ["alice", "bob"]}, *pool.settings],
    }
    made = Weighbridge(tmp_path_factory.mktemp("traced"), upstream, settings)
    made.environment = {**SOON, "COLLECTOR": f"x-api-key={SECRET},Authorization=Bearer%20{SECRET}"}
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def key(stand: Weighbridge) -> str:
    return stand.key("alice", "laptop")


@pytest.fixture(scope="module")
def client(stand: Weighbridge, key: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=stand.base_url, headers={"x-goog-api-key": key}, timeout=60) as made:
        yield made


def test_a_call_is_a_span_with_its_attempt_below_and_what_it_used_is_what_the_record_has(
    stand: Weighbridge, collector: Receiver, client: httpx2.Client
) -> None:
    asked = {**body("a lorry [[cached=20]] [[thoughts=11]]"), "generationConfig": {"maxOutputTokens": 500}}
    answer = client.post(TEXT + "generateContent", json=asked)
    server, (attempt,) = collector.request(id_of(answer))
    (record,) = [one for one in stand.records() if one.request_id == id_of(answer)]
    assert record.usage is not None
    usage = json.loads(record.usage)
    assert (server.name, server.parent_id, server.failed) == (
        "POST /{version}/models/{model}:generateContent",
        "",
        False,
    )
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/{version}/models/{model}:generateContent",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "weighbridge.request_id": id_of(answer),
        "weighbridge.project": "alice",
        "weighbridge.key": "laptop",
        "weighbridge.operation": "generateContent",
        "weighbridge.outcome": "ok",
        "weighbridge.calls": 1,
        "weighbridge.cost_usd": to_usd(record.cost_usd or 0),
        "gen_ai.request.model": "gemini-3.8-flash",
    }
    host, port = stand.upstream_url.removeprefix("http://").split(":")
    assert (attempt.name, attempt.failed) == ("generate_content gemini-3.8-flash", False)
    assert attempt.attributes == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-3.8-flash",
        "gen_ai.request.max_tokens": 500,
        "gen_ai.response.model": record.model_version,
        "gen_ai.response.id": record.response_id,
        "gen_ai.response.finish_reasons": ["STOP"],
        "gen_ai.usage.input_tokens": usage["promptTokenCount"],
        "gen_ai.usage.output_tokens": usage["totalTokenCount"] - usage["promptTokenCount"],
        "gen_ai.usage.reasoning.output_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.text.input_tokens": usage["promptTokensDetails"][0]["tokenCount"],
        "http.response.status_code": 200,
        "server.address": host,
        "server.port": int(port),
        "weighbridge.record_id": record.record_id,
        "weighbridge.upstream": "emulator",
        "weighbridge.attempt.outcome": "answered",
        "weighbridge.outcome": "ok",
        "weighbridge.cost_usd": to_usd(record.cost_usd or 0),
    }
    assert server.started <= attempt.started <= attempt.ended
    assert server.resource["service.name"] == "weighbridge"
    assert server.scope == ("weighbridge", server.resource["service.version"], genai_names.SCHEMA)


def test_a_stream_tells_when_it_began_and_what_it_used(
    stand: Weighbridge, collector: Receiver, client: httpx2.Client
) -> None:
    answer = client.post(TEXT + "streamGenerateContent?alt=sse", json=body("a lorry [[chunks=4]]"))
    server, (attempt,) = collector.request(id_of(answer))
    assert server.attributes["weighbridge.operation"] == "streamGenerateContent"
    assert attempt.attributes["gen_ai.operation.name"] == "generate_content"
    assert attempt.attributes["gen_ai.request.stream"] is True
    assert 0 < attempt.attributes["gen_ai.response.time_to_first_chunk"] < (attempt.ended - attempt.started) / 1e9
    assert attempt.attributes["gen_ai.usage.output_tokens"] > 0


def test_a_free_call_is_told_without_usage(collector: Receiver, client: httpx2.Client) -> None:
    answer = client.post(TEXT + "countTokens", json=body("a lorry"))
    server, (attempt,) = collector.request(id_of(answer))
    assert attempt.name == "countTokens gemini-3.8-flash"
    assert not {"weighbridge.record_id", "weighbridge.cost_usd", "weighbridge.outcome"} & attempt.attributes.keys()
    assert "weighbridge.calls" not in server.attributes


def test_the_compatibility_layer_has_names_of_its_own(
    stand: Weighbridge, collector: Receiver, key: str, client: httpx2.Client
) -> None:
    with openai_client(stand, key, "/v1beta/openai") as sdk:
        answer = sdk.chat.completions.with_raw_response.create(
            model="gemini-3.8-flash", messages=[{"role": "user", "content": "a lorry"}]
        )
    server, (attempt,) = collector.request(answer.headers["x-weighbridge-request-id"])
    assert server.name == "POST /{version}/openai/chat/completions"
    assert attempt.name == "chat gemini-3.8-flash"
    assert attempt.attributes["gen_ai.usage.input_tokens"] > 0


def test_n_pictures_are_one_request_with_n_attempts(
    stand: Weighbridge, collector: Receiver, key: str, client: httpx2.Client
) -> None:
    with openai_client(stand, key) as sdk:
        answer = sdk.images.with_raw_response.generate(prompt="three lorries", n=3)
    request_id = answer.headers["x-weighbridge-request-id"]
    server, attempts = collector.request(request_id)
    records = {one.record_id: one for one in stand.records() if one.request_id == request_id}
    assert server.name == "POST /v1/images/generations"
    assert len(attempts) == len(records) == 3
    for attempt in attempts:
        record = records.pop(attempt.attributes["weighbridge.record_id"])
        assert attempt.attributes["weighbridge.cost_usd"] == to_usd(record.cost_usd or 0)
        assert attempt.attributes["weighbridge.images"] == 1
        assert attempt.attributes["gen_ai.output.type"] == "image"
    total = sum(one.cost_usd or 0 for one in stand.records() if one.request_id == request_id)
    assert server.attributes["weighbridge.cost_usd"] == to_usd(total)
    assert (server.attributes["weighbridge.calls"], server.attributes["weighbridge.images"]) == (3, 3)


def test_a_callers_trace_goes_on_through_us(stand: Weighbridge, collector: Receiver, client: httpx2.Client) -> None:
    """W3C Trace Context: the caller's span is the request's parent, the attempt's the upstream's; its state too."""
    came = {"traceparent": PARENT, "tracestate": "vendor=a1,other=b2"}
    answer = client.post(TEXT + "generateContent", json=body("hi"), headers=came)
    server, (attempt,) = collector.request(id_of(answer))
    assert (server.trace_id, server.parent_id, server.trace_state) == (TRACE, SPAN, "vendor=a1,other=b2")
    up = went_up(stand)
    assert up["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
    assert up["tracestate"] == "vendor=a1,other=b2"


def test_a_trace_of_ours_begins_where_the_caller_has_none(
    stand: Weighbridge, collector: Receiver, client: httpx2.Client
) -> None:
    """Or one that is none, which never goes up."""
    for wrong in ("", "00-0-0-01", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01"):
        answer = client.post(TEXT + "generateContent", json=body("hi"), headers={"traceparent": wrong} if wrong else {})
        server, (attempt,) = collector.request(id_of(answer))
        assert server.parent_id == ""
        sampled = f"00-{server.trace_id}-{attempt.span_id}-03"  # and random: Trace Context, level 2
        assert went_up(stand)["traceparent"] == sampled


def test_what_a_caller_does_not_want_traced_is_not_sent_and_goes_on_unsampled(
    stand: Weighbridge, collector: Receiver, client: httpx2.Client
) -> None:
    unsampled = "1" * 32
    client.post(TEXT + "generateContent", json=body("hi"), headers={"traceparent": f"00-{unsampled}-{'2' * 16}-00"})
    up = went_up(stand)["traceparent"]
    assert up.startswith(f"00-{unsampled}-")
    assert up.endswith("-00")
    collector.request(id_of(client.post(TEXT + "generateContent", json=body("after it"))))
    assert [span for span in collector.spans if span.trace_id == unsampled] == []


@pytest.mark.parametrize(
    ("target", "headers", "status", "reason", "name"),
    [
        (TEXT + "generateContent", {"x-goog-api-key": "wb_wrong"}, 400, "API_KEY_INVALID", "generateContent"),
        ("/v1beta/files", {}, 404, "UNKNOWN_OPERATION", ""),
        (TEXT + "generateContent?fields=x", {}, 400, "UNMETERABLE_PARAMETER", ""),
        ("/v1/images/generations", {"x-goog-api-key": "wb_wrong"}, 400, "API_KEY_INVALID", "/v1/images/generations"),
    ],
)
def test_a_refusal_is_a_span_without_attempts(
    collector: Receiver,
    client: httpx2.Client,
    target: str,
    headers: dict[str, str],
    status: int,
    reason: str,
    name: str,
) -> None:
    """By the conventions, a request that is wrong is no failure of the server's."""
    answer = client.post(target, json=body("hi"), headers=headers)
    server, attempts = collector.request(id_of(answer))
    assert attempts == []
    assert server.attributes["http.response.status_code"] == answer.status_code == status
    assert server.attributes["weighbridge.refused"] == server.attributes["error.type"] == reason
    assert server.attributes["weighbridge.outcome"] == "refused"
    assert not server.failed
    assert server.name.endswith(name or "POST")


@pytest.mark.parametrize(("status", "failed"), [(400, False), (500, True)])
def test_an_upstreams_error_is_the_attempts_failure(
    collector: Receiver, client: httpx2.Client, status: int, failed: bool
) -> None:
    answer = client.post(TEXT + "generateContent", json=body(f"[[status={status}]]"))
    server, (attempt,) = collector.request(id_of(answer))
    assert (attempt.failed, attempt.attributes["error.type"]) == (True, str(status))
    assert (server.failed, server.attributes["error.type"]) == (failed, str(status))
    assert server.attributes["weighbridge.outcome"] == "upstream_error"
    assert server.attributes["weighbridge.cost_usd"] == "0"


@pytest.mark.parametrize(
    ("prompt", "why"), [("[[break-after=300]]", "UPSTREAM_UNREACHABLE"), ("[[error-mid-stream=503]]", "truncated")]
)
def test_a_broken_off_answer_is_a_failure_with_what_it_is_billed(
    collector: Receiver, client: httpx2.Client, prompt: str, why: str
) -> None:
    request_id = ""
    with (
        suppress(httpx2.RemoteProtocolError),
        client.stream("POST", TEXT + "streamGenerateContent?alt=sse", json=body(f"{prompt} [[chunks=8]]")) as answer,
    ):
        request_id = id_of(answer)
        answer.read()
    server, (attempt,) = collector.request(request_id)
    assert (attempt.failed, attempt.attributes["error.type"]) == (True, why)
    assert attempt.attributes["weighbridge.outcome"] == server.attributes["weighbridge.outcome"] == "truncated"
    assert attempt.attributes["weighbridge.estimated"] is True
    assert server.failed is (why == "UPSTREAM_UNREACHABLE")


def test_a_client_that_left_is_told_with_what_its_call_cost(
    stand: Weighbridge, collector: Receiver, key: str, client: httpx2.Client
) -> None:
    content = json.dumps(body("[[chunks=4]] [[chunk-delay=0.1]]")).encode()
    head = f"POST {TEXT}streamGenerateContent?alt=sse HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    with connect(stand.base_url) as connection:
        connection.sendall(head.encode() + content)
        answered = connection.recv(65536)
    request_id = answered.partition(b"x-weighbridge-request-id: ")[2].partition(b"\r\n")[0].decode()
    server, (attempt,) = collector.request(request_id)
    assert server.attributes["weighbridge.outcome"] == attempt.attributes["weighbridge.outcome"] == "client_gone"
    assert (server.failed, attempt.failed) == (False, False)
    assert attempt.attributes["gen_ai.usage.output_tokens"] > 0


def test_health_and_preflights_are_no_spans(collector: Receiver, client: httpx2.Client) -> None:
    client.get("/healthz")
    client.get("/readyz")
    client.options(TEXT + "generateContent", headers={"origin": "https://app.example"})
    client.options(TEXT + "generateContent")
    collector.request(id_of(client.get("/weighbridge/v1/limits")))
    assert {span.attributes["http.request.method"] for span in collector.spans if span.kind == "SERVER"} <= {
        "GET",
        "POST",
    }
    assert [span for span in collector.spans if span.attributes.get("http.route") is None and "GET" in span.name] == []


def test_a_span_is_of_its_own_request_however_many_run_at_once(collector: Receiver, stand: Weighbridge) -> None:
    key = stand.key("bob")

    async def all_at_once() -> list[str]:
        async with httpx2.AsyncClient(base_url=stand.base_url, headers={"x-goog-api-key": key}, timeout=60) as client:
            answers = await asyncio.gather(
                *(
                    client.post(TEXT + "generateContent", json=body(f"[[delay=0.1]] [[text-bytes={100 * number}]]"))
                    for number in range(1, 9)
                )
            )
            return [id_of(answer) for answer in answers]

    for request_id in asyncio.run(all_at_once()):
        _, (attempt,) = collector.request(request_id)
        (record,) = [one for one in stand.records() if one.request_id == request_id]
        assert attempt.attributes["weighbridge.record_id"] == record.record_id
        assert attempt.attributes["gen_ai.response.id"] == record.response_id


def test_no_secret_and_nothing_of_a_prompt_is_in_anything_that_was_sent(
    stand: Weighbridge, collector: Receiver, key: str, client: httpx2.Client
) -> None:
    """Wherever a caller puts it: the bytes of all that the collector got are looked through. Runs behind the others."""
    google = "AIzaSyA1234567890abcdefghijklmnopqrstuv"
    hidden = {"traceparent": PARENT, "tracestate": f"vendor={key}", "x-hidden": key, "user-agent": f"me/{key}"}
    said = body("the quick brown fox [[echo-key]]")
    for target in (
        f"{TEXT}generateContent",
        f"/v1beta/models/{google}:generateContent",
        f"/v1beta/files/{key}",
        f"/weighbridge/v1/calls/{key}",
    ):
        collector.request(id_of(client.post(target, json=said, headers=hidden)))
    asked = client.post(f"{TEXT}generateContent?key={key}", json=body("the quick brown fox"))
    server, _ = collector.request(id_of(asked))
    assert server.attributes["http.response.status_code"] == 200
    sent = bytes(collector.raw).lower()
    assert b"generate_content" in sent
    for secret in (key, google, stand.upstream_key, SECRET, "quick brown", "a lorry", "three lorries"):
        assert secret.lower().encode() not in sent, secret
    assert all(span.events == 0 for span in collector.spans)


def test_the_collector_is_sent_the_headers_that_let_us_in(collector: Receiver, client: httpx2.Client) -> None:
    collector.request(id_of(client.post(TEXT + "generateContent", json=body("hi"))))
    assert set(collector.paths) == {"/v1/traces"}
    assert {(each["x-api-key"], each["authorization"]) for each in collector.headers} == {(SECRET, f"Bearer {SECRET}")}
    assert SECRET not in (collector.spans[0].resource | {}).values()


def test_every_name_in_a_span_is_one_that_is_told(collector: Receiver, client: httpx2.Client) -> None:
    """After all the others: nothing came that genai_names doesn't have."""
    known = {value for value in vars(genai_names).values() if isinstance(value, str)}
    known |= {*genai_names.INPUT_TOKENS_OF.values(), *genai_names.OUTPUT_TOKENS_OF.values()}
    collector.request(id_of(client.post(PICTURE, json=body("a lorry"))))
    assert {name for span in collector.spans for name in span.attributes} <= known


def test_each_attempt_over_a_pool_is_a_span(stand: Weighbridge, collector: Receiver, pool: Pool) -> None:
    """Each upstream is told of the span of its own attempt."""
    headers = {"x-goog-api-key": stand.key("pooled"), "traceparent": PARENT}
    answer = httpx2.post(stand.base_url + TEXT + "generateContent", json=body("hi"), headers=headers, timeout=60)
    assert answer.status_code == 200
    server, attempts = collector.request(id_of(answer))
    assert [
        (each.attributes["weighbridge.upstream"], each.attributes["weighbridge.attempt.outcome"], each.failed)
        for each in attempts
    ] == [("first", "rate_limited", True), ("away", "unreachable", True), ("third", "answered", False)]
    assert [each.attributes.get("error.type") for each in attempts] == ["429", "unreachable", None]
    assert "weighbridge.outcome" not in attempts[0].attributes
    assert attempts[2].attributes["gen_ai.usage.output_tokens"] == 3
    assert not server.failed
    for script, attempt in ((pool.first, attempts[0]), (pool.third, attempts[2])):
        assert parent_told(script) == f"00-{TRACE}-{attempt.span_id}-01"


def parent_told(script: Scripted) -> str:
    """The traceparent of the one request that a script got."""
    (came,) = script.received
    (parent,) = [value for name, value in came.headers if name == b"traceparent"]
    return parent.decode()
