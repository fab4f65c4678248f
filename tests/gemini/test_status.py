"""google.rpc.Status: ours built as Google builds it, theirs understood where it speaks of our credential."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CallerErred, ProxyRefused, RateLimited, Reason, Refusal, Violation
from proxy.gemini import status
from proxy.gemini.status import error_body, refusal_body, refuses_our_credential


def test_an_error_is_laid_out_as_google_lays_it_out() -> None:
    assert error_body(404, "NOT_FOUND", "models/x is not found") == (
        b'{\n  "error": {\n    "code": 404,\n'
        b'    "message": "models/x is not found",\n    "status": "NOT_FOUND"\n  }\n}\n'
    )


def test_details_come_last_and_text_stays_readable() -> None:
    body = error_body(429, "RESOURCE_EXHAUSTED", "Größe", [{"@type": "t", "retryDelay": "1s"}])
    assert list(json.loads(body)["error"]) == ["code", "message", "status", "details"]
    assert "Größe".encode() in body


def test_a_message_that_is_not_quite_unicode_is_still_an_error() -> None:
    assert json.loads(error_body(400, "INVALID_ARGUMENT", "a\udc80b"))["error"]["message"] == "a?b"


def test_every_refusal_bears_its_reason_code_and_status() -> None:
    for reason in Reason:
        error = json.loads(refusal_body(ProxyRefused(reason, "What to do."), "single"))["error"]
        assert (error["code"], error["status"], error["message"]) == (reason.http, reason.status, "What to do.")
        info = error["details"][0]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert (info["reason"], info["domain"]) == (reason.word, "weighbridge")


def test_only_where_the_response_would_have_been_an_array_the_error_is_one() -> None:
    refusal = CallerErred(Reason.BAD_REQUEST, "m")
    single = refusal_body(refusal, "single")
    assert refusal_body(refusal, "sse") == single
    assert json.loads(refusal_body(refusal, "array")) == [json.loads(single)]


def test_a_status_of_http_that_says_more_than_the_reasons_stands_in_its_place() -> None:
    refusal = CallerErred(Reason.BAD_REQUEST, "m")
    plain = json.loads(refusal_body(refusal, "single"))["error"]
    refusal.http = 431
    exact = json.loads(refusal_body(refusal, "single"))["error"]
    assert (plain["code"], exact["code"]) == (400, 431)
    assert {**plain, "code": 431} == exact


def retry_delay(refusal: Refusal) -> str | None:
    details = json.loads(refusal_body(refusal, "single"))["error"]["details"]
    return next((detail["retryDelay"] for detail in details if detail["@type"].endswith("RetryInfo")), None)


def test_retry_info_stands_where_retrying_helps_and_nowhere_else() -> None:
    helped = {reason for reason in Reason if retry_delay(ProxyRefused(reason, "m")) == status.RETRY_DELAY}
    assert helped == {
        Reason.LEDGER_UNAVAILABLE,
        Reason.LIMITER_UNAVAILABLE,
        Reason.STORE_UNAVAILABLE,
        Reason.DRAINING,
        Reason.UPSTREAM_UNREACHABLE,
    }


@pytest.mark.parametrize(
    ("wait_ms", "delay", "header"),
    [
        (12_345, "12.345s", 13),
        (1000, "1.000s", 1),
        (60_000, "60.000s", 60),
        (60_001, "60.001s", None),
        (None, None, None),
    ],
)
def test_a_reached_limit_is_told_as_google_tells_it(wait_ms: int | None, delay: str | None, header: int | None) -> None:
    """QuotaFailure names limit and value; RetryInfo says the whole wait, the header only what an SDK may sleep out."""
    violation = Violation("weighbridge/rpm", "RequestsPerMinutePerKey", {"project": "alice", "key": "key_1"}, 60)
    refusal = RateLimited("m", (violation,), wait_ms)
    error = json.loads(refusal_body(refusal, "single"))["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"][1] == {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {
                "quotaMetric": "weighbridge/rpm",
                "quotaId": "RequestsPerMinutePerKey",
                "quotaDimensions": {"project": "alice", "key": "key_1"},
                "quotaValue": "60",
            }
        ],
    }
    assert retry_delay(refusal) == delay
    assert status.retry_after(refusal) == header
    assert status.retry_after(ProxyRefused(Reason.DRAINING, "m")) is None


def test_an_invalid_key_is_refused_as_google_refuses_it() -> None:
    error = json.loads(refusal_body(CallerErred(Reason.API_KEY_INVALID, status.API_KEY_INVALID), "single"))["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert [detail["@type"].rpartition(".")[2] for detail in error["details"]] == ["ErrorInfo", "LocalizedMessage"]
    assert error["details"][1] == {**error["details"][1], "locale": "en-US", "message": status.API_KEY_INVALID}


def google(code: int, word: str, message: str, reason: str | None = None, **metadata: str) -> bytes:
    info: dict[str, Any] = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
    info |= {"domain": "googleapis.com", "metadata": metadata}
    return error_body(code, word, message, [info] if reason else [])


OURS = [
    google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "API_KEY_INVALID"),
    google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", "API_KEY_INVALID"),
    google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    google(400, "INVALID_ARGUMENT", "Multiple authentication credentials received. Please pass only one."),
    google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
    google(403, "PERMISSION_DENIED", "Your project has been denied access. Please contact support."),
    google(403, "PERMISSION_DENIED", status.API_KEY_MISSING),
    google(403, "PERMISSION_DENIED", "Requests to this API are blocked.", "API_KEY_SERVICE_BLOCKED"),
    google(403, "PERMISSION_DENIED", "The provided API key has an IP restriction.", "API_KEY_IP_ADDRESS_BLOCKED"),
    google(
        403, "PERMISSION_DENIED", "Permission denied: Consumer 'api_key:A' has been suspended.", "CONSUMER_SUSPENDED"
    ),
    google(403, "PERMISSION_DENIED", "Generative Language API has not been used in project 1", "SERVICE_DISABLED"),
    google(403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", "BILLING_DISABLED"),
]


@pytest.mark.parametrize("body", OURS)
def test_an_error_about_our_key_or_its_project_is_recognised_bare_and_in_an_array(body: bytes) -> None:
    code = json.loads(body)["error"]["code"]
    assert refuses_our_credential(code, body)
    assert refuses_our_credential(code, b"[" + body + b"]")
    assert refuses_our_credential(code, bytearray(body))


def test_a_long_error_about_our_key_is_recognised_too() -> None:
    """Whoever calls bounds the body, and nothing between that bound and another may pass unseen."""
    details = [{"@type": "t", "text": "x" * 100_000}]
    body = error_body(400, "INVALID_ARGUMENT", status.API_KEY_INVALID, details)
    assert refuses_our_credential(400, body)


def test_401_is_always_about_our_key_because_no_other_goes_up() -> None:
    assert refuses_our_credential(401, b"")
    assert refuses_our_credential(401, b"<html>")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (400, google(400, "INVALID_ARGUMENT", 'Invalid JSON payload received. Unknown name "API key not valid"')),
        (400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")),
        (403, google(403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist.")),
        (403, google(403, "PERMISSION_DENIED", "The caller does not have permission")),
        (403, b"<!DOCTYPE html><title>Error 403 (Forbidden)!!1</title>"),
        (400, b""),
        (400, b"{"),
        (400, b"\xff\xfe{"),
        (400, b"null"),
        (400, b'"API key not valid"'),
        (400, b'{"error":"API key not valid"}'),
        (400, b'{"error":{"message":1,"details":{"reason":"API_KEY_INVALID"}}}'),
        (400, b'{"error":{"details":["API_KEY_INVALID",{"reason":["API_KEY_INVALID"]}]}}'),
        (400, b"[" * 60_000),
        (404, OURS[0]),
        (429, OURS[0]),
        (500, OURS[0]),
        (200, OURS[0]),
    ],
)
def test_any_other_error_is_the_clients_to_read(code: int, body: bytes) -> None:
    assert not refuses_our_credential(code, body)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "details", "message", "reason"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    code=st.sampled_from([400, 403]), body=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())
)
def test_no_body_makes_it_raise(code: int, body: bytes) -> None:
    assert refuses_our_credential(code, body) in (True, False)
