"""Errors in OpenAI's shape: our refusals on its surfaces, and Google's errors retold there.

{"error": {"message", "type", "param", "code", "details"}}: the first four are OpenAI's (openai-python 3.54,
_exceptions.APIError); `details` are google.rpc's, the ErrorInfo that every refusal of ours bears among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.errors import NoUpstream, Reason, Refusal
from proxy.gemini import calls, status, surface

_CODES = {
    Reason.API_KEY_INVALID: "invalid_api_key",
    Reason.API_KEY_MISSING: "invalid_api_key",
    Reason.RATE_LIMITED: "rate_limit_exceeded",
    Reason.BUDGET_HELD: "rate_limit_exceeded",
    Reason.BUDGET_EXCEEDED: "insufficient_quota",
}
"""OpenAI's own words, which clients compare with, where it has one; else the reason's, in small letters."""

_TYPES = {403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def spoken_at(raw_path: bytes) -> bool:
    """Whether refusals at a path are to be in this shape: OpenAI's own paths, served or not, and the layer's."""
    segments = [segment for segment in raw_path.decode("latin-1").split("/") if segment]
    first = next((segment for segment in segments if segment not in calls.VERSIONS), "")
    return surface.COMPATIBLE in segments or first in calls.OPENAI_ALONE


def error_object(
    http: int,
    message: str,
    code: str,
    *,
    param: str = "",
    details: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The `error` of a body. `details` are complete, "@type" included; there is no such field where there are none."""
    kind = "server_error" if http >= 500 else _TYPES.get(http, "invalid_request_error")
    error: dict[str, Any] = {
        "message": message,
        "type": "insufficient_quota" if code == "insufficient_quota" else kind,
        "param": param or None,
        "code": code,
    }
    if details:
        error["details"] = list(details)
    return error


def refusal_object(refusal: Refusal) -> dict[str, Any]:
    """The `error` of a refusal of ours."""
    code = _CODES.get(refusal.reason, refusal.reason.word.lower())
    if isinstance(refusal, NoUpstream) and refusal.told:
        return retold(refusal.told, refusal.http)
    details = list(status.rpc_details(refusal))
    return error_object(refusal.http, refusal.message, code, param=refusal.param, details=details)


def retold(error: Mapping[str, Any], http: int) -> dict[str, Any]:
    """The `error` of one of Google's (google.rpc.Status); what of it isn't of its documented type is left out."""
    word, message, details = error.get("status"), error.get("message"), error.get("details")
    code = word.lower() if isinstance(word, str) else "upstream_error"
    code = "rate_limit_exceeded" if http == 429 else code
    said = message if isinstance(message, str) else f"The upstream answered {http}."
    return error_object(http, said, code, details=details if isinstance(details, list) else ())


def refusal_body(refusal: Refusal) -> bytes:
    """A refusal of ours, as the body of an answer."""
    return body({"error": refusal_object(refusal)})


def body(value: Mapping[str, Any]) -> bytes:
    """JSON as we write it here."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def helped_by_retrying(refusal: Refusal) -> bool:
    """False where OpenAI's SDKs, which repeat every 429 by themselves, should not: it would be refused again."""
    return refusal.reason is not Reason.BUDGET_EXCEEDED
