"""How calls end: answers, errors, and none at all. What breaks off is in test_disconnects and test_broken_upstream."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from proxy.billing.records import UsageRecord
from tests.journeys.watching import DEADLINE_S, PICTURE, TEXT, body, until
from tests.scripted import says, scripted
from tests.stand import Weighbridge, weighbridge


def record_of(stand: Weighbridge, request_id: str | None = None, *, project: str) -> UsageRecord:
    """The project's only record."""
    (record,) = [record for record in stand.records() if record.project == project]
    assert request_id in (None, record.request_id)
    return record


def read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_an_upstream_that_is_not_there_costs_nothing_and_leaves_no_record(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with weighbridge(tmp_path, nobody) as stand:
        answer = httpx2.post(stand.base_url + PICTURE, json=body("a cat"), headers={"x-goog-api-key": stand.key()})
        assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_UNREACHABLE")
        stand.stop()
        assert stand.records() == []
        stand.start()
        assert stand.records() == [], "a lease was left behind"


@pytest.mark.parametrize("client_leaves", [True, False])
def test_a_call_that_ends_while_it_still_connects_is_not_billed(tmp_path: Path, client_leaves: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never says a word of TLS
        nobody = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with weighbridge(tmp_path, nobody) as stand, ThreadPoolExecutor() as callers:
            headers = {"x-goog-api-key": stand.key()}
            url, patience = stand.base_url + PICTURE, 0.2 if client_leaves else 60
            calling = callers.submit(httpx2.post, url, json=body("a cat"), headers=headers, timeout=patience)
            connection, _ = silent.accept()
            if client_leaves:
                assert isinstance(calling.exception(DEADLINE_S), httpx2.ReadTimeout)
                with connection:
                    read_to_the_end(connection)
            stand.stop()
            assert calling.exception(DEADLINE_S)
            connection.close()
            stand.start()
            assert stand.records() == []


def test_an_upstream_that_is_too_slow_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    settings = {"gateway": {"first_byte_timeout_s": 0.2}}
    with scripted(lambda connection: None) as upstream, weighbridge(tmp_path, upstream.base_url, settings) as stand:
        answer = httpx2.post(stand.base_url + PICTURE, json=body("a cat"), headers={"x-goog-api-key": stand.key()})
        assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (504, "UPSTREAM_TIMEOUT")
        (record,) = stand.records()
        assert (record.outcome, record.estimated) == ("truncated", True)


def test_a_single_response_that_comes_as_an_event_is_weighed_as_one(tmp_path: Path) -> None:
    event = (
        b'data: {"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":64000,"totalTokenCount":64003}}\r\n\r\n'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(event)
    with scripted(says(head + event)) as upstream, weighbridge(tmp_path, upstream.base_url) as stand:
        path = stand.base_url + TEXT + "generateContent?alt=sse"
        answer = httpx2.post(path, json=body("a tale"), headers={"x-goog-api-key": stand.key()})
        assert answer.content == event
        (record,) = stand.records()
        assert (record.outcome, record.estimated, record.total_token_count) == ("ok", False, 64003)


def test_a_redirect_is_never_passed_on(tmp_path: Path) -> None:
    moved = says(
        b"HTTP/1.1 307 Moved\r\nLocation: https://elsewhere.example/?key=emulator-key\r\nContent-Length: 0\r\n\r\n"
    )
    with scripted(moved) as upstream, weighbridge(tmp_path, upstream.base_url) as stand:
        answer = httpx2.post(stand.base_url + PICTURE, json=body("a cat"), headers={"x-goog-api-key": stand.key()})
        assert answer.status_code == 502
        assert "location" not in answer.headers
        assert "elsewhere" not in answer.text
        (record,) = stand.records()
        assert (record.outcome, record.cost_usd) == ("upstream_error", 0)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
@pytest.mark.parametrize("path", [TEXT + "generateContent", TEXT + "streamGenerateContent"])
def test_the_upstreams_errors_cross_untouched_and_cost_nothing(
    stand: Weighbridge, upstream: str, status: int, path: str
) -> None:
    project = f"error{status}{abs(hash(path)) % 10**6}"
    asked = body(f"x [[status={status}]]")
    direct = httpx2.post(upstream + path, json=asked, headers={"x-goog-api-key": "emulator-key"})
    through = httpx2.post(stand.base_url + path, json=asked, headers={"x-goog-api-key": stand.key(project)})
    assert (through.status_code, through.content) == (direct.status_code, direct.content)
    record = record_of(stand, through.headers["x-weighbridge-request-id"], project=project)
    assert (record.outcome, record.cost_usd, record.http_status) == ("upstream_error", 0, status)
    assert record.response_bytes == len(direct.content)


def test_a_refusal_of_our_credential_never_looks_like_one_of_the_clients(upstream: str, tmp_path: Path) -> None:
    stand = Weighbridge(tmp_path, upstream, upstream_key="not-the-emulators-key")
    stand.start()
    answer = httpx2.post(stand.base_url + PICTURE, json=body("a cat"), headers={"x-goog-api-key": stand.key()})
    stand.stop()
    assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_CREDENTIAL_REFUSED")
    until(lambda: "upstream_credential_refused" in stand.log(), "its line in the log")
    assert "not-the-emulators-key" not in stand.log() + answer.text


@pytest.mark.parametrize("directive", ["[[echo-key]]", "[[status=429-project]]", "[[status=403]]"])
@pytest.mark.parametrize("gzip", ["", " [[gzip]]"])
def test_an_error_that_speaks_of_us_is_redacted(stand: Weighbridge, directive: str, gzip: str) -> None:
    headers = {"x-goog-api-key": stand.key("redacted")}
    answer = httpx2.post(stand.base_url + TEXT + "generateContent", json=body(f"x {directive}{gzip}"), headers=headers)
    said = answer.text + str(answer.headers)
    assert answer.status_code >= 400
    assert "emulator-key" not in said
    assert "123456789012" not in said


@pytest.mark.parametrize("query", ["?alt=sse", ""])
def test_an_error_in_mid_stream_that_speaks_of_us_is_redacted(stand: Weighbridge, query: str) -> None:
    headers = {"x-goog-api-key": stand.key("redacted")}
    asked = body("x [[chunks=6]] [[error-mid-stream=429-project]]")
    answer = httpx2.post(f"{stand.base_url}{TEXT}streamGenerateContent{query}", json=asked, headers=headers)
    assert "RESOURCE_EXHAUSTED" in answer.text
    assert "123456789012" not in answer.text


def test_a_usage_of_nothing_is_billed_by_estimate_and_never_silently_free(stand: Weighbridge) -> None:
    headers = {"x-goog-api-key": stand.key("zero")}
    httpx2.post(stand.base_url + PICTURE, json=body("a cat [[usage=zero]]"), headers=headers)
    record = record_of(stand, project="zero")
    assert (record.outcome, record.estimated) == ("ok", True)
    assert record.cost_usd


def test_an_error_in_mid_stream_is_billed_by_what_was_seen(stand: Weighbridge) -> None:
    headers = {"x-goog-api-key": stand.key("midway")}
    path = TEXT + "streamGenerateContent?alt=sse"
    answer = httpx2.post(stand.base_url + path, json=body("x [[chunks=6]] [[error-mid-stream=429]]"), headers=headers)
    assert answer.status_code == 200
    record = record_of(stand, project="midway")
    assert (record.outcome, record.estimated) == ("truncated", True)
    assert record.usage is not None
