"""google.rpc.Status, the error's shape on the native surface: ours built, theirs parsed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.errors import NoUpstream, RateLimited, Reason, Refusal

API_KEY_MISSING = (
    "Method doesn't allow unregistered callers (callers without established identity). "
    "Please use API Key or other form of API consumer identity to call this API."
)
"""What Google says to a request without a key (403)."""

API_KEY_INVALID = "API key not valid. Please pass a valid API key."
"""What Google says to a request with a key that it doesn't know (400)."""

RETRY_DELAY = "5s"
"""RetryInfo of the refusals that pass by themselves."""

LONGEST_RETRY_AFTER_S = 60
"""SDKs that heed the header sleep it out, whatever it says, several times over; RetryInfo tells longer waits."""

_RETRYABLE = frozenset(
    {
        Reason.LEDGER_UNAVAILABLE,
        Reason.LIMITER_UNAVAILABLE,
        Reason.STORE_UNAVAILABLE,
        Reason.DRAINING,
        Reason.UPSTREAM_UNREACHABLE,
    }
)

# https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto: those that speak of the caller's
# credential or of the project that it belongs to, both of which are the operator's here.
_CREDENTIAL_REASONS = frozenset(
    {
        "SERVICE_DISABLED",
        "BILLING_DISABLED",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "USER_PROJECT_DENIED",
        "ACCOUNT_STATE_INVALID",
        "CREDENTIALS_MISSING",
        "ACCESS_TOKEN_EXPIRED",
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "ACCESS_TOKEN_TYPE_UNSUPPORTED",
    }
)

# How such messages begin where Google sends no ErrorInfo with them. Nothing that a caller wrote is echoed so early.
_CREDENTIAL_MESSAGES = (
    "api key not valid",
    "api key not found",
    "api key expired",
    "your api key was reported as leaked",
    "your project has been denied access",
    "the request is missing a valid api key",
    "method doesn't allow unregistered callers",
    "multiple authentication credentials received",
    "missing or invalid authorization header",
    "permission denied: consumer",
    "generative language api has not been used in project",
)


_decode_first = json.JSONDecoder().raw_decode


def error_body(code: int, status: str, message: str, details: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """{"error": {code, message, status, details}} in Google's order and indentation; no `details` where there are none.

    SDKs want `error` as the first key and `code` as an int. `details` are complete, "@type" included.
    """
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = list(details)
    return _written(error)


def _written(error: Mapping[str, Any]) -> bytes:
    text = json.dumps({"error": error}, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"  # a lone surrogate must not turn one error into another


def refusal_body(refusal: Refusal, framing: str) -> bytes:
    """A refusal of ours in Google's shape; where the response would have been an array, that array's only element."""
    if isinstance(refusal, NoUpstream) and refusal.told:
        body = _written(refusal.told)
    else:
        body = error_body(refusal.http, refusal.reason.status, refusal.message, list(rpc_details(refusal)))
    return b"[" + body + b"]\n" if framing == "array" else body


def retry_after(refusal: Refusal) -> int | None:
    """Seconds for the header `Retry-After`; None where there is to be none."""
    if not isinstance(refusal, RateLimited) or refusal.wait_ms is None:
        return None
    seconds = -(-refusal.wait_ms // 1000)
    return seconds if seconds <= LONGEST_RETRY_AFTER_S else None


def refuses_our_credential(status: int, body: bytes | bytearray) -> bool:
    """Whether an upstream's error speaks of the credential that we sent, or of the project behind it.

    401 always does, for one credential goes up and it is ours. 400 and 403 do where their ErrorInfo or the beginning
    of their message says so; anything else in them (a blocked location, a file of someone else's, HTML) is not about
    the key. Never raises. All of the body is parsed, in about 5 ms for 128 KB: the caller bounds it.
    """
    if status == 401:
        return True
    if status not in (400, 403):
        return False
    return any(_speaks_of_credential(error) for error in _errors(body))


def refuses_our_credential_in_stream(error: bytes) -> bool:
    """The same for an error in mid-stream, whose status is its `code`. What follows its object is passed by."""
    try:
        said, _ = _decode_first(error.decode("utf-8", "replace"))
        code = said["error"]["code"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return False
    return code == 401 or (code in (400, 403) and _speaks_of_credential(said["error"]))


def rpc_details(refusal: Refusal) -> Iterator[dict[str, Any]]:
    """What a refusal of ours bears, in google.rpc's messages."""
    yield {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": refusal.reason.word,
        "domain": "weighbridge",
        # Google's own errors carry it, and clients look there.
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    if refusal.reason is Reason.API_KEY_INVALID:
        yield {
            "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
            "locale": "en-US",
            "message": refusal.message,
        }
    if isinstance(refusal, RateLimited):
        yield {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [
                {
                    "quotaMetric": violation.metric,
                    "quotaId": violation.id,
                    "quotaDimensions": violation.dimensions,
                    "quotaValue": str(violation.value),
                }
                for violation in refusal.violations
            ],
        }
        if refusal.wait_ms is not None:
            yield _retry_info(f"{refusal.wait_ms / 1000:.3f}s")
    if isinstance(refusal, NoUpstream) and refusal.wait_ms is not None:
        yield _retry_info(f"{refusal.wait_ms / 1000:.3f}s")
    if refusal.reason in _RETRYABLE:
        yield _retry_info(RETRY_DELAY)


def _retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def _errors(body: bytes | bytearray) -> Iterator[dict[str, Any]]:
    """The `error` objects of a body: of the object that it is, or of the array's elements."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return
    for element in parsed if isinstance(parsed, list) else [parsed]:
        error = element.get("error") if isinstance(element, dict) else None
        if isinstance(error, dict):
            yield error


def _speaks_of_credential(error: dict[str, Any]) -> bool:
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        reason = detail.get("reason") if isinstance(detail, dict) else None
        if isinstance(reason, str) and (reason.startswith("API_KEY_") or reason in _CREDENTIAL_REASONS):
            return True
    message = error.get("message")
    return isinstance(message, str) and message.lower().startswith(_CREDENTIAL_MESSAGES)
