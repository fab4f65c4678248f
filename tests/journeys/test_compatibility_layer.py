"""Google's compatibility layer passed through: what goes up, what comes down, what stands in the ledger."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.scripted import Scripted, scripted
from tests.stand import Weighbridge, weighbridge

MODEL, EMBEDDING, PAINTER = "gemini-3.8-flash", "gemini-embedding-2", "gemini-3-pro-image"
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 170}
TRUE_KEY = "scripted-upstream-key"


def answer(body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


def said(value: Any) -> bytes:
    return answer(json.dumps(value).encode())


def streamed(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


def event(value: Any, end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(value).encode() + end


COMPLETION = {
    "id": "chat-1",
    "object": "chat.completion",
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": USAGE,
}
CHUNK = {"id": "chat-2", "object": "chat.completion.chunk", "model": MODEL}
HELLO = event({**CHUNK, "choices": [{"index": 0, "delta": {"content": "Hello"}}]}, b"\r\n\r\n")
STOP = event({**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
OF_USAGE = event({**CHUNK, "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"


class Playing:
    """What the upstream answers next."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.breaks = False

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self.answers.pop(0))
        if self.breaks:
            self.breaks = False
            connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def playing() -> Playing:
    return Playing()


@pytest.fixture(scope="module")
def script(playing: Playing) -> Iterator[Scripted]:
    with scripted(playing) as running:
        yield running


@pytest.fixture(scope="module")
def stand(script: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    settings = {"models": [{"match": "gpt-4o", "use": MODEL}]}
    with weighbridge(tmp_path_factory.mktemp("compatible"), script.base_url, settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(stand: Weighbridge) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {stand.key()}"}
    with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=30) as running:
        yield running


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}


def test_a_chat_crosses_with_one_bearer_and_its_thoughts_are_billed_though_only_the_total_shows_them(
    client: httpx2.Client, script: Scripted, playing: Playing, stand: Weighbridge
) -> None:
    playing.answers = [said(COMPLETION)]
    body = json.dumps(chat(), indent=1).encode()
    came = client.post(
        "/v1/v1beta/openai//chat/completions/", content=body, headers={"content-type": "application/json"}
    )
    assert (came.status_code, came.content) == (200, json.dumps(COMPLETION).encode())
    up = script.received[-1]
    assert (up.target, up.body) == (b"/v1beta/openai/chat/completions", body)
    credentials = [(name, value) for name, value in up.headers if name in (b"authorization", b"x-goog-api-key")]
    assert credentials == [(b"authorization", b"Bearer emulator-key")]
    record = stand.records()[-1]
    assert record.operation == "openai.chat.completions"
    assert (record.model, record.model_version, record.response_id, record.finish_reason) == (
        MODEL,
        MODEL,
        "chat-1",
        "stop",
    )
    assert json.loads(record.usage or "") == USAGE
    assert record.usage == json.dumps(USAGE)
    assert record.rates is not None
    assert {name: quantity for name, (quantity, _) in record.rates.items()} == {"input_text": 100, "output_text": 70}
    assert (record.prompt_token_count, record.candidates_token_count, record.total_token_count) == (100, 20, 170)
    assert not record.estimated


@pytest.mark.parametrize(
    ("options", "goes_up", "comes"),
    [
        ("", b'{"stream_options":{"include_usage":true},"stream": true', HELLO + STOP + DONE),
        (', "stream_options": null', b'"stream_options": {"include_usage":true}', HELLO + STOP + DONE),
        (', "stream_options": {}', b'"stream_options": {"include_usage":true}', HELLO + STOP + DONE),
        (', "streamOptions": {"x": 1}', b'"streamOptions": {"include_usage":true,"x": 1}', HELLO + STOP + DONE),
        (', "stream_options": {"include_usage": false}', b'{"include_usage": true}', HELLO + STOP + DONE),
        (', "stream_options": {"includeUsage": null}', b'{"includeUsage": true}', HELLO + STOP + DONE),
        (', "stream_options": {"include_usage": true}', b'{"include_usage": true}', HELLO + STOP + OF_USAGE + DONE),
    ],
)
def test_a_stream_is_asked_for_its_usage_and_the_chunk_taken_out_where_the_client_did_not(
    options: str,
    goes_up: bytes,
    comes: bytes,
    client: httpx2.Client,
    script: Scripted,
    playing: Playing,
    stand: Weighbridge,
) -> None:
    stream = HELLO + STOP + OF_USAGE + DONE
    playing.answers = [streamed(*(stream[at : at + 50] for at in range(0, len(stream), 50)))]
    body = f'{{"stream": true, "model": "{MODEL}", "messages": []{options}}}'.encode()
    came = client.post("/v1beta/openai/chat/completions", content=body, headers={"content-type": "application/json"})
    assert came.content == comes
    assert goes_up in script.received[-1].body
    assert json.loads(script.received[-1].body)["model"] == MODEL
    record = stand.records()[-1]
    assert (record.usage, record.finish_reason, record.estimated) == (json.dumps(USAGE), "stop", False)


def test_an_alias_in_the_body_is_spliced_beside_the_usage(
    client: httpx2.Client, script: Scripted, playing: Playing, stand: Weighbridge
) -> None:
    playing.answers = [streamed(HELLO, STOP, OF_USAGE, DONE)]
    body = b'{"messages": [{"role":"user","content":"x"}], "model": "models\\/gpt-4o", "stream": true}'
    client.post("/v1beta/openai/chat/completions", content=body, headers={"content-type": "application/json"})
    expected = body.replace(b"gpt-4o", MODEL.encode())
    assert script.received[-1].body == expected[:1] + b'"stream_options":{"include_usage":true},' + expected[1:]
    record = stand.records()[-1]
    assert (record.model, record.model_asked) == (MODEL, "gpt-4o")


def test_a_stream_without_usage_is_billed_by_its_estimate(
    client: httpx2.Client, playing: Playing, stand: Weighbridge
) -> None:
    playing.answers = [streamed(HELLO, STOP, DONE)]
    assert client.post("/v1beta/openai/chat/completions", json=chat(stream=True)).content == HELLO + STOP + DONE
    record = stand.records()[-1]
    assert record.estimated
    assert record.cost_usd
    metrics = httpx2.get(f"{stand.admin_url}/metrics").text
    assert 'weighbridge_usage_missing_total{operation="openai.chat.completions"} 1.0' in metrics


def test_an_upstreams_error_crosses_as_it_is_but_for_our_key(
    client: httpx2.Client, playing: Playing, stand: Weighbridge
) -> None:
    """An array, as the layer sends it."""
    error = b'[{"error": {"code": 400, "message": "no %b", "status": "INVALID_ARGUMENT"}}]'
    playing.answers = [answer(error % b"emulator-key", status=b"400 Bad Request")]
    came = client.post("/v1beta/openai/chat/completions", json=chat())
    assert (came.status_code, came.content) == (400, error % b"REDACTED")
    assert stand.records()[-1].outcome == "upstream_error"
    playing.answers = [
        answer(b'[{"error": {"code": 400, "message": "API key not valid."}}]', status=b"400 Bad Request")
    ]
    came = client.post("/v1beta/openai/chat/completions", json=chat())
    assert (came.status_code, came.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_CREDENTIAL_REFUSED")
    assert came.json()["error"]["code"] == "upstream_credential_refused"


def test_a_stream_that_breaks_off_is_truncated_and_looks_it(
    client: httpx2.Client, playing: Playing, stand: Weighbridge
) -> None:
    """What had come of it whole has gone down."""
    playing.answers, playing.breaks = [streamed(HELLO, STOP)[:-5]], True
    whole: list[bytes] = []
    with client.stream("POST", "/v1beta/openai/chat/completions", json=chat(stream=True)) as came:
        pieces = came.iter_bytes()
        with pytest.raises(httpx2.RemoteProtocolError):
            whole.extend(pieces)
    assert b"".join(whole) == HELLO + STOP
    record = stand.records()[-1]
    assert (record.outcome, record.estimated) == ("truncated", True)


def test_pictures_are_counted_as_they_pass_and_failed_ones_cost_nothing(
    client: httpx2.Client, playing: Playing, stand: Weighbridge
) -> None:
    """In an answer of some MB, and in one without any."""
    picture, failed = {"b64_json": "iVBORw0KGgo+" * 300_000}, {"b64_json": None, "error": "blocked"}
    for data, images in (([picture, failed, picture], 2), ([failed], 0), ([], 0)):
        playing.answers = [said({"created": 1, "data": data})]
        asked = {"model": f"models/{PAINTER}", "prompt": "A red bicycle", "n": 3, "response_format": "b64_json"}
        came = client.post("/openai/images/generations", json=asked)
        assert came.json()["data"] == data
        record = stand.records()[-1]
        assert (record.model, record.operation) == (PAINTER, "openai.images.generations")
        assert (record.images, record.cost_usd, record.estimated) == (images, images * 1120 * 120_000, False)
    metrics = httpx2.get(f"{stand.admin_url}/metrics").text
    assert 'weighbridge_usage_missing_total{operation="openai.images.generations"} 0.0' in metrics


def test_whatever_is_refused_is_in_openais_shape_goes_nowhere_and_costs_nothing(
    client: httpx2.Client, script: Scripted, stand: Weighbridge
) -> None:
    stand.run("project", "create", "bob", "--models", "gemini-3.8-*", "--rpm", "1000")
    bob = {"authorization": f"Bearer {stand.key('bob')}"}
    received, records = len(script.received), len(stand.records())

    def refused(path: str, asked: Any, headers: dict[str, str] | None = None) -> tuple[int, str, str | None]:
        came = client.post(f"/v1beta/openai/{path}", json=asked, headers=headers)
        error = came.json()["error"]
        assert error["details"][0]["reason"] == came.headers["x-weighbridge-refused"]
        assert error["message"]
        return came.status_code, came.headers["x-weighbridge-refused"], error["param"]

    bad, mine = "BAD_REQUEST", "MODEL_NOT_ALLOWED"
    assert refused("chat/completions", {"messages": []}) == (400, bad, "model")
    assert refused("chat/completions", chat(stream="yes")) == (400, bad, "stream")
    assert refused("chat/completions", chat(model=PAINTER)) == (400, bad, "model")
    assert refused("images/generations", {"model": PAINTER, "prompt": "x"}, bob) == (403, mine, None)
    assert refused("embeddings", {"model": EMBEDDING, "input": "x"}, bob) == (403, mine, None)
    files = [{"type": "file", "file": {"file_id": "files/a"}}]
    assert refused("chat/completions", chat(messages=[{"content": files}]))[:2] == (403, "RESOURCE_NOT_OWNED")
    assert refused("chat/completions", chat(tools=[{"google_search": {}}]))[1:] == ("UNMETERABLE_PARAMETER", "tools")
    assert refused("images/edits", {})[:2] == (404, "UNKNOWN_OPERATION")
    assert refused("chat/completions?fields=id", chat())[1] == "UNMETERABLE_PARAMETER"
    assert (len(script.received), len(stand.records())) == (received, records)


def test_limits_and_budgets_hold_by_the_model_of_the_body(script: Scripted, playing: Playing, tmp_path: Path) -> None:
    """A budget that must not be overrun holds what the body bounds; what is over it is refused before it goes up."""
    limits = ["--limit", f"rpm=2,model={EMBEDDING}", "--limit", "usd=0.01,per=day,model=gemini-3*"]
    with weighbridge(tmp_path, script.base_url, {"limits": {"hold": "worst"}}) as stand:
        stand.run("project", "create", "alice", *limits)
        headers = {"authorization": f"Bearer {stand.key()}"}

        def post(path: str, asked: Any, *answers: bytes) -> httpx2.Response:
            playing.answers = list(answers)
            url = f"{stand.base_url}/v1beta/openai/{path}"
            return httpx2.post(url, json=asked, headers=headers, timeout=30)

        vectors = {"object": "list", "data": [], "model": EMBEDDING, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
        asked = {"model": EMBEDDING, "input": "Hi"}
        assert [post("embeddings", asked, said(vectors)).status_code for _ in range(3)] == [200, 200, 429]
        assert post("chat/completions", chat(max_tokens=100), said(COMPLETION)).status_code == 200
        over = post("chat/completions", chat())
        assert (over.status_code, over.headers["x-weighbridge-refused"]) == (429, "BUDGET_EXCEEDED")
        assert over.json()["error"]["code"] == "insufficient_quota"
        assert over.headers["x-should-retry"] == "false"
        over = post("images/generations", {"model": PAINTER, "prompt": "x"})
        assert over.headers["x-weighbridge-refused"] == "BUDGET_EXCEEDED"
        over = post("chat/completions", chat(model="gemini-3-unheard-of"))
        assert (over.status_code, over.headers["x-weighbridge-refused"]) == (403, "MODEL_UNPRICED")
        assert [record.model for record in stand.records()] == [EMBEDDING, EMBEDDING, MODEL]
        assert "hold_exceeded" not in stand.log()


def test_lists_of_models_have_what_aliases_offer(client: httpx2.Client, script: Scripted, playing: Playing) -> None:
    entry = {"id": f"models/{MODEL}", "object": "model", "owned_by": "google"}
    playing.answers = [said({"object": "list", "data": [entry]}), said(entry)]
    listed = client.get("/v1beta/openai/models").json()["data"]
    assert listed == [entry, {**entry, "id": "models/gpt-4o"}]
    assert client.get("/v1beta/openai/models/models%2Fgpt-4o").json() == {**entry, "id": "models/gpt-4o"}
    assert script.received[-1].target == f"/v1beta/openai/models/{MODEL}".encode()
