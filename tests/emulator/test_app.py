"""The emulator's front: routes, credentials, headers, and what it shows of itself."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.applications import Starlette

from proxy.emulator.app import DEFAULT_KEY, create_app
from tests.emulator.conftest import IMAGE, TEXT, Client
from tests.servers import running, serving

BODY = {"contents": [{"parts": [{"text": "hello"}]}]}


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha", "v1beta1"])
def test_every_version_of_the_api_answers(client: Client, version: str) -> None:
    assert client.post(f"/{version}/models/{TEXT}:generateContent", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/v2/models/{TEXT}:generateContent"),
        ("POST", f"/v1/models/{TEXT}:predict"),
        ("GET", f"/v1/models/{TEXT}:generateContent"),
        ("POST", "/v1/models"),
        ("GET", "/v1/files"),
        ("GET", "/"),
    ],
)
def test_what_google_has_no_route_for_is_its_html_404(client: Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=UTF-8"
    assert "That's all we know" in answer.text


def test_a_percent_encoded_colon_is_a_colon(client: Client) -> None:
    assert client.post(f"/v1/models/{TEXT}%3AgenerateContent", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("headers", "query", "code", "status", "says"),
    [
        ({}, "", 403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers"),
        ({"x-goog-api-key": ""}, "", 403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers"),
        ({"x-goog-api-key": "other"}, "", 400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        ({}, "?key=other", 400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        ({"authorization": f"Bearer {DEFAULT_KEY}"}, "", 401, "UNAUTHENTICATED", "invalid authentication credentials"),
        (
            {"x-goog-api-key": DEFAULT_KEY},
            f"?key={DEFAULT_KEY}",
            400,
            "INVALID_ARGUMENT",
            "Multiple authentication credentials received. Please pass only one.",
        ),
        (
            {"x-goog-api-key": DEFAULT_KEY, "authorization": "Bearer x"},
            "",
            400,
            "INVALID_ARGUMENT",
            "Multiple authentication credentials received. Please pass only one.",
        ),
    ],
)
def test_a_request_without_exactly_one_good_credential_is_refused_in_googles_words(
    client: Client, base_url: str, headers: dict[str, str], query: str, code: int, status: str, says: str
) -> None:
    before = client.get("/emulator/account").json()["entries"]
    answer = httpx2.post(f"{base_url}/v1/models/{TEXT}:generateContent{query}", json=BODY, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (code, code, status)
    assert says in error["message"]
    assert client.get("/emulator/account").json()["entries"] == before


def test_a_bad_key_is_told_by_its_reason(base_url: str) -> None:
    details = httpx2.get(f"{base_url}/v1/models?key=wrong").json()["error"]["details"]
    assert details[0]["reason"] == "API_KEY_INVALID"
    assert details[1]["@type"].endswith("LocalizedMessage")


def test_the_key_may_stand_in_the_query(base_url: str) -> None:
    assert httpx2.get(f"{base_url}/v1/models?key={DEFAULT_KEY}").status_code == 200


def test_bearer_is_accepted_where_the_emulator_plays_a_router() -> None:
    with running(create_app(keys={"mine"}, bearer=True)) as url:
        assert httpx2.get(f"{url}/v1/models", headers={"authorization": "Bearer mine"}).status_code == 200


def test_a_reply_has_googles_headers_and_no_others(base_url: str) -> None:
    answer = httpx2.post(
        f"{base_url}/v1/models/{TEXT}:generateContent", json=BODY, headers={"x-goog-api-key": DEFAULT_KEY}
    )
    assert [name for name, _ in answer.headers.multi_items()] == [
        "content-type",
        *["vary"] * 3,
        "content-encoding",
        "date",
        "server",
        "x-xss-protection",
        "x-frame-options",
        "x-content-type-options",
        "server-timing",
        "x-gemini-service-tier",
        "alt-svc",
        "transfer-encoding",
    ]
    assert answer.headers["server"] == "scaffolding on HTTPServer2"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["server-timing"].startswith("gfet4t7; dur=")


def test_an_error_names_no_service_tier_and_no_retry_after(client: Client) -> None:
    headers = client.ask("[[status=429]]").headers
    assert "x-gemini-service-tier" not in headers
    assert "retry-after" not in headers


def test_identity_is_honoured(client: Client) -> None:
    assert "content-encoding" not in client.ask("hello").headers


def test_a_query_parameter_that_no_message_has_is_refused(client: Client) -> None:
    error = client.ask("hello", query="?fields=candidates").json()["error"]
    assert error["code"] == 400
    assert 'Unknown name "fields": Cannot bind query parameter.' in error["message"]


@pytest.mark.parametrize(("verb", "alt"), [("generateContent", "sse"), ("streamGenerateContent", "proto")])
def test_an_alt_that_the_operation_does_not_speak_is_refused(client: Client, verb: str, alt: str) -> None:
    assert client.ask("hello", verb=verb, query=f"?alt={alt}").status_code == 400


def test_the_requests_can_be_looked_at_as_they_came(client: Client) -> None:
    body = b'{"contents": [{"parts": [{"text": "raw"}]}]}'
    client.post(f"/v1//models/x%3Ay?b=2&a=%31&key={DEFAULT_KEY}", content=body, headers={"X-Mixed": "One"})
    seen = client.get("/emulator/requests").json()["entries"][-1]
    assert seen["method"] == "POST"
    assert seen["target"] == f"/v1//models/x%3Ay?b=2&a=%31&key={DEFAULT_KEY}"
    assert ["x-mixed", "One"] in seen["headers"]
    assert base64.b64decode(seen["body_base64"]) == body
    assert seen["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert seen["complete"] is True


def test_a_large_body_is_kept_as_its_digest_only(client: Client) -> None:
    body = b"x" * 100_000
    client.post("/v1/nothing", content=body)
    seen = client.get("/emulator/requests").json()["entries"][-1]
    assert (seen["body_bytes"], seen["body_base64"]) == (100_000, None)


def test_its_own_addresses_are_paged_and_cleared_and_leave_no_trace() -> None:
    with running(create_app(requests_kept=10)) as url, Client(base_url=url) as client:
        for _ in range(3):
            client.get("/v1/models")
        first = client.get("/emulator/requests?limit=2").json()
        assert [entry["seq"] for entry in first["entries"]] == [1, 2]
        rest = client.get(f"/emulator/requests?after={first['next']}").json()
        assert ([entry["seq"] for entry in rest["entries"]], rest["next"]) == ([3], None)
        assert client.delete("/emulator/requests").status_code == 204
        assert client.get("/emulator/requests").json() == {"entries": [], "next": None}
        assert client.get("/emulator/requests?limit=0").status_code == 400


def test_clock_and_seed_are_handed_in() -> None:
    answers = []
    for _ in range(2):
        with running(create_app(clock=lambda: 1_800_000_000.25, seed=7)) as url:
            headers = {"x-goog-api-key": DEFAULT_KEY}
            with Client(base_url=url, headers=headers) as client:
                answers.append(client.ask("hello").content)
                assert client.last_billed()["time"] == "2027-01-15T08:00:00.250000Z"
    assert answers[0] == answers[1]


def test_a_client_who_leaves_is_billed_all_the_same(client: Client, base_url: str) -> None:
    """Google generates on, whether or not anyone listens."""
    body = json.dumps({"contents": [{"parts": [{"text": "[[chunks=5]] [[chunk-delay=60]]"}]}]}).encode()
    host, port = urlsplit(base_url).hostname, urlsplit(base_url).port
    with socket.create_connection((host, port)) as raw:
        head = (
            f"POST /v1/models/{TEXT}:streamGenerateContent?alt=sse HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {DEFAULT_KEY}"
        )
        raw.sendall(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        while b"data: " not in raw.recv(65536):
            pass
        assert client.last_billed()["sent_whole"] is None
    entry = client.last_ended()
    assert entry["sent_whole"] is False
    assert entry["usage"]["candidates_token_count"] > 0


def test_drawing_does_not_hold_up_other_requests(app: Starlette, client: Client) -> None:
    """Two requests are answered while ten large pictures are being drawn, which takes a hundred times as long."""
    client.delete("/emulator/requests")
    config = {"imageConfig": {"imageSize": "4K"}}
    with ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(client.ask, "Ten lorries [[images=10]]", IMAGE, generationConfig=config)
        while not app.state.received.entries():
            pass
        client.ask("hello")
        assert client.last_billed()["model"] == TEXT
        assert drawn.result().status_code == 200
    assert client.last_billed()["model"] == IMAGE


@pytest.mark.anyio
async def test_it_serves_in_a_tests_own_loop_as_well() -> None:
    async with serving(create_app()) as url, httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get(f"/v1/models?key={DEFAULT_KEY}")).status_code == 200
