"""Errors in OpenAI's shape: what openai-python makes its exceptions of."""

from __future__ import annotations

import json

from proxy.errors import CallerErred, NoUpstream, ProxyRefused, RateLimited, Reason, Violation
from proxy.gemini import openai_errors

LIMIT = Violation("weighbridge/rpm", "RequestsPerMinutePerProject", {"project": "alice"}, 5)


def test_a_refusal_says_what_param_is_wrong_and_keeps_its_reason() -> None:
    """`code` and `param` are OpenAI's; the reason of the contract stands in an ErrorInfo beside them."""
    wrong = CallerErred(Reason.BAD_REQUEST, "n must be 1 to 10.")
    wrong.param = "n"
    error = json.loads(openai_errors.refusal_body(wrong))["error"]
    assert (error["message"], error["type"], error["param"]) == ("n must be 1 to 10.", "invalid_request_error", "n")
    assert error["code"] == "bad_request"
    assert [(info["reason"], info["domain"]) for info in error["details"]] == [("BAD_REQUEST", "weighbridge")]


def test_codes_are_openais_own_where_it_has_one() -> None:
    """Clients compare with them: to wait, to ask for another key, to give up."""
    limited = openai_errors.refusal_object(RateLimited("Slow down.", (LIMIT,), 1500))
    assert (limited["type"], limited["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert limited["details"][2]["retryDelay"] == "1.500s"
    spent = RateLimited("Spent.", (LIMIT,), None, Reason.BUDGET_EXCEEDED)
    assert openai_errors.refusal_object(spent)["code"] == "insufficient_quota"
    assert not openai_errors.helped_by_retrying(spent)
    assert openai_errors.helped_by_retrying(RateLimited("Slow down.", (LIMIT,), 1500))
    assert openai_errors.refusal_object(ProxyRefused(Reason.DRAINING, "Again."))["type"] == "server_error"
    assert openai_errors.refusal_object(ProxyRefused(Reason.MODEL_NOT_ALLOWED, "No."))["type"] == "permission_error"


def test_an_upstreams_own_429_is_retold_in_its_words() -> None:
    """All upstreams said so: the caller gets Google's message and details."""
    told = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your quota.", "details": [{"a": 1}]}
    error = openai_errors.refusal_object(NoUpstream("None is left.", 1000, told))
    assert (error["message"], error["code"], error["details"]) == (
        "You exceeded your quota.",
        "rate_limit_exceeded",
        [{"a": 1}],
    )


def test_an_odd_error_is_retold_as_far_as_it_can_be_read() -> None:
    """What isn't of its documented type is left out, and nothing breaks."""
    error = openai_errors.retold({"status": 5, "message": None, "details": {"x": 1}}, 500)
    assert error["message"] == "The upstream answered 500."
    assert (error["code"], error["type"]) == ("upstream_error", "server_error")
    assert "details" not in error


def test_which_paths_speak_openai() -> None:
    """The front's, the compatibility layer's, and those that only OpenAI has, where its SDKs look by mistake."""
    spoken = [
        b"/v1/images/generations",
        b"//v1//images/edits/",
        b"/openai/v1/models",
        b"/v1beta/openai/chat/completions",
    ]
    spoken += [b"/v1/chat/completions", b"/v1/responses", b"/images/generations", b"/v1/embeddings"]
    assert all(openai_errors.spoken_at(path) for path in spoken)
    googles = [b"/v1beta/models/gemini-3-pro-image:generateContent", b"/v1/models", b"/v1beta/files", b"/", b"/v1"]
    assert not any(openai_errors.spoken_at(path) for path in googles)
