"""Bad input: a clear answer in the shape that the caller's SDK understands; nothing goes up, nothing is billed."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.journeys.watching import until
from tests.scripted import Scripted, says, scripted
from tests.stand import Weighbridge, weighbridge

PATH = "/v1beta/models/gemini-3.8-flash:generateContent"
BODY = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    with scripted(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as script:
        yield script


@pytest.fixture(scope="module")
def stand(upstream: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("refusals"), upstream.base_url, {"server": {"max_body_mb": 1}}) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_went_up(stand: Weighbridge, upstream: Scripted) -> Iterator[None]:
    upstream.received.clear()
    yield
    assert upstream.received == []
    assert stand.records() == []


def refused(answer: httpx2.Response, status: int, reason: str) -> dict[str, Any]:
    """Checks a refusal's shape: as Google words one, with our reason in it and in the header."""
    assert (answer.status_code, answer.headers.get("x-weighbridge-refused")) == (status, reason), answer.text
    assert answer.headers["x-weighbridge-request-id"]
    document = answer.json()
    error: dict[str, Any] = (document[0] if isinstance(document, list) else document)["error"]
    assert error["code"] == status
    info = error["details"][0]
    assert (info["reason"], info["domain"]) == (reason, "weighbridge")
    return error


def post(stand: Weighbridge, path: str = PATH, content: bytes = BODY, **headers: str) -> httpx2.Response:
    sent = JSON | {"x-goog-api-key": stand.key()} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.post(stand.base_url + path, content=content, headers={k: v for k, v in sent.items() if v})


def test_no_key_is_googles_own_403(stand: Weighbridge) -> None:
    error = refused(post(stand, x_goog_api_key=""), 403, "API_KEY_MISSING")
    assert error["message"].startswith("Method doesn't allow unregistered callers")


@pytest.mark.parametrize("key", ["nonsense", "AIzaSyA1234567890abcdefghijklmnopqrstuvw", "wb_" + "0" * 38])
def test_an_unknown_key_is_googles_own_400_and_is_not_repeated(stand: Weighbridge, key: str) -> None:
    answer = post(stand, x_goog_api_key=key)
    assert refused(answer, 400, "API_KEY_INVALID")["message"] == "API key not valid. Please pass a valid API key."
    assert key not in answer.text + stand.log()


def test_two_keys_that_differ_are_refused(stand: Weighbridge) -> None:
    refused(post(stand, authorization=f"Bearer {stand.key()}"), 400, "CREDENTIALS_CONFLICT")


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1beta/models/..:generateContent", 400, "BAD_REQUEST"),
        ("/v1beta/models/%2e%2e/x:generateContent", 400, "BAD_REQUEST"),
        ("/v1beta/models/{model}:generateContent", 400, "BAD_REQUEST"),
        ("/v1beta/models/%7Bmodel%7D:generateContent", 400, "BAD_REQUEST"),
        ("/v1beta/models/m:inventContent", 404, "UNKNOWN_OPERATION"),
        ("/v1beta/tunedModels/m:generateContent", 404, "UNKNOWN_OPERATION"),
        ("/v1beta/cachedContents", 404, "UNKNOWN_OPERATION"),
        ("/upload/v1beta/files", 404, "UNKNOWN_OPERATION"),
        ("/v1/projects/p/locations/l/publishers/google/models/m:generateContent", 404, "UNKNOWN_OPERATION"),
        ("/admin/v1/keys", 404, "UNKNOWN_OPERATION"),
        (PATH + "?fields=candidates", 400, "UNMETERABLE_PARAMETER"),
        (PATH + "?alt=proto", 400, "UNMETERABLE_PARAMETER"),
        (PATH + "?callback=f", 400, "UNMETERABLE_PARAMETER"),
    ],
)
def test_a_path_that_is_not_served_says_what_is(stand: Weighbridge, path: str, status: int, reason: str) -> None:
    refused(post(stand, path), status, reason)


@pytest.mark.parametrize("header", ["x_goog_fieldmask", "x_http_method_override"])
def test_a_header_that_would_hide_the_usage_is_refused(stand: Weighbridge, header: str) -> None:
    refused(post(stand, **{header: "candidates"}), 400, "UNMETERABLE_PARAMETER")


def test_a_stream_without_sse_gets_its_refusal_in_an_array_as_google_sends_it(stand: Weighbridge) -> None:
    array = post(stand, "/v1beta/models/m:streamGenerateContent", x_goog_api_key="no")
    assert isinstance(array.json(), list)
    refused(array, 400, "API_KEY_INVALID")


def test_a_body_over_the_limit_is_refused_before_it_is_sent(stand: Weighbridge) -> None:
    refused(post(stand, content=b" " * (2 << 20)), 413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (gzip.compress(BODY), {"content_encoding": "gzip"}),
        (BODY.decode().encode("utf-16"), {}),
        (BODY.decode().encode("utf-16-le"), {}),
        (b"\xef\xbb\xbf" + BODY, {}),
        (b'{"contents":"\xff"}', {}),
        (BODY, {"content_type": "application/x-www-form-urlencoded"}),
        (BODY, {"content_type": "application/json; charset=utf-16"}),
        (b'{"cachedContent":"","cached_content":"x"}', {}),
        (b'{"file\\u0055ri":1,"contents":[}', {}),
    ],
)
def test_a_body_that_google_might_read_otherwise_is_refused(
    stand: Weighbridge, content: bytes, headers: dict[str, str]
) -> None:
    refused(post(stand, content=content, **headers), 400, "BAD_REQUEST")


@pytest.mark.parametrize("name", ["fileUri", "file_uri", "file\\u0055ri", "\\u0066ile_uri"])
@pytest.mark.parametrize(
    "uri",
    [
        "files/abc",
        "https://generativelanguage.googleapis.com/v1beta/files/abc",
        "HTTPS://GenerativeLanguage.GoogleAPIs.com./v1beta/files/abc",
        "https:\\/\\/generativelanguage.googleapis.com/files/abc",
        "https://x@generativelanguage.googleapis.com/files/abc",
        "http://127.0.0.1/v1beta/files/abc",
    ],
)
def test_a_file_that_may_be_somebody_elses_is_refused_however_it_is_spelt(
    stand: Weighbridge, name: str, uri: str
) -> None:
    content = b'{"contents":[{"parts":[{"fileData":{"%b":"%b"}}]}]}' % (name.encode(), uri.encode())
    refused(post(stand, content=content), 403, "RESOURCE_NOT_OWNED")


@pytest.mark.parametrize("content", [b'{"cachedContent":"cachedContents/x"}', b'{"cached_content":"cachedContents/x"}'])
def test_a_cache_that_may_be_somebody_elses_is_refused(stand: Weighbridge, content: bytes) -> None:
    refused(post(stand, content=content), 403, "RESOURCE_NOT_OWNED")


def test_a_batch_may_not_name_another_model_than_its_path(stand: Weighbridge) -> None:
    content = json.dumps({"requests": [{"model": "models/gemini-3-pro-image", "content": {"parts": [{"text": "x"}]}}]})
    path = "/v1beta/models/gemini-embedding-2:batchEmbedContents"
    refused(post(stand, path, content.encode()), 400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST %b HTTP/1.1\r\nHost: x\r\nX-Long: " % PATH.encode() + b"a" * (1 << 20), 431),
        (b"POST %b HTTP/1.1\r\nHost: x\r\n" % PATH.encode() + b"X-Many: 1\r\n" * 10_000 + b"\r\n", 431),
        (b"POST /v1beta/\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd" % PATH.encode(), 400),
        (
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            % PATH.encode(),
            400,
        ),
        (
            b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" % PATH.encode(),
            400,
        ),
        (b"POST /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 20_000), 414),
    ],
)
def test_what_is_no_http_is_answered_in_googles_shape(stand: Weighbridge, raw: bytes, status: int) -> None:
    where = urlsplit(stand.base_url)
    with socket.create_connection((where.hostname or "", where.port or 0), 20) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer may come before all is sent
            connection.sendall(raw)
        came = b""
        while b"}\n" not in came and (piece := connection.recv(65536)):
            came += piece
    head, _, body = came.partition(b"\r\n\r\n")
    assert head.split()[1] == b"%d" % status
    assert json.loads(body)["error"]["code"] == status
    request_id = head.partition(b"x-weighbridge-request-id: ")[2].partition(b"\r\n")[0].decode()
    assert request_id
    until(lambda: request_id in stand.log(), "its line in the log")


def test_a_body_that_stops_half_way_sends_nothing_up(stand: Weighbridge) -> None:
    where = urlsplit(stand.base_url)
    with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
        key = stand.key()
        connection.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: {key}\r\nContent-Length: 100\r\n\r\n{{".encode()
        )
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""


def test_a_key_in_a_log_line_would_be_found_here(stand: Weighbridge) -> None:
    key = stand.key()
    httpx2.post(f"{stand.base_url}/v1beta/models/m:nonsense?key={key}", content=BODY, headers=JSON)
    until(lambda: "UNKNOWN_OPERATION" in stand.log(), "its line in the log")
    assert key not in stand.log()
