"""An error that is known calls for its hint: Google's own bodies, and beside them the nearest that call for none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.emulator import errors
from proxy.errors import Hint, NoUpstream, ProxyRefused, Reason, Refusal
from proxy.gemini import calls, error_hints, exhausted
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from proxy.gemini.hints import LONGEST, SENTENCES, hint

NANO, OLD, TEXT = "gemini-nano-banana-2.1", "gemini-2.5-flash-image", "gemini-3.8-flash"
PLAIN = BodyFacts()
QUOTA = "You exceeded your current quota, please check your plan and billing details."


def call(model: str = NANO, method: str = "generateContent") -> Call:
    return calls.parse("POST", f"/v1beta/models/{model}:{method}".encode(), b"")


def openai(operation: str, model: str = NANO) -> Call:
    """A call on Google's compatibility layer."""
    asked = call(model)
    return replace(asked, operation=replace(asked.operation, name=operation))


def told(body: object, status: int, of: Call | None = None, facts: BodyFacts = PLAIN) -> Hint | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_hints.of_error(of or call(), facts, status, raw)


def error(message: str, status: str = "INVALID_ARGUMENT", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": 0, "message": message, "status": status, "details": list(details)}}


def violated(quota_id: str, delay: str = "") -> dict[str, Any]:
    info = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}] if delay else []
    failure = {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaMetric": "m", "quotaId": quota_id}],
    }
    return error(QUOTA, "RESOURCE_EXHAUSTED", failure, *info)


def unknown(name: str, at: str = "") -> dict[str, Any]:
    where = f" at '{at}'" if at else ""
    return error(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')


NOT_FOUND = errors.model_not_found("whatever", "v1beta", "generateContent").body()
LARGE, WITH_PICTURES = BodyFacts(image_size="4K"), BodyFacts(inline_pictures=2)
ON_CHAT = openai("openai.chat.completions")
CASES: list[tuple[str, object, int, Call, BodyFacts, str]] = [
    ("model-retired", NOT_FOUND, 404, call(OLD), PLAIN, "2026-10-02: ask for gemini-nano-banana-2.1"),
    ("model-retired", NOT_FOUND, 404, call("imagen-4.0-ultra"), PLAIN, "Imagen 4 was shut down on 2026-08-17"),
    ("model-access", NOT_FOUND, 404, call(NANO), PLAIN, "gemini-nano-banana-2.1 is a current id"),
    ("model-unknown", NOT_FOUND, 404, call("gemini-9"), PLAIN, "GET /v1beta/models"),
    ("model-unknown", NOT_FOUND, 404, call(NANO, "embedContent"), PLAIN, "not for this method"),
    (
        "compatibility-images",
        error("no", "NOT_FOUND"),
        404,
        openai("openai.images.generations"),
        PLAIN,
        "/v1/images/generations",
    ),
    ("model-retired", error("no"), 404, openai("openai.images.generations", OLD), PLAIN, "nano-banana"),
    ("native-fields", [unknown("generationConfig")], 400, ON_CHAT, PLAIN, ":generateContent"),
    ("native-fields", unknown("generation_config"), 400, ON_CHAT, PLAIN, "compatibility layer"),
    ("openai-fields", unknown("prompt"), 400, call(), PLAIN, "/v1/images/generations"),
    ("openai-fields", unknown("max_tokens"), 400, call(TEXT), PLAIN, "OpenAI"),
    ("misplaced-field", unknown("imageSize", "generation_config"), 400, call(), PLAIN, "generationConfig.image"),
    ("misplaced-field", unknown("aspect_ratio"), 400, call(), PLAIN, "aspectRatio is known, but not there"),
    ("misplaced-field", unknown("responseModalities"), 400, call(), PLAIN, "belongs in generationConfig."),
    ("ratio-not-offered", error("Aspect ratio 1:4 is not supported for this model"), 400, call(), PLAIN, "8:1"),
    ("ratio-refused", error("Aspect ratio 1:4 is not supported for x"), 400, call("new"), PLAIN, "16:9, 21:9."),
    ("size-not-offered", error("Image size 9K is not supported for this model"), 400, call(), PLAIN, "512"),
    ("no-sizes", error("Image size 1K is not supported for this model"), 400, call(OLD), PLAIN, "no imageSize"),
    ("no-tools", error("Function calling is not enabled for models/x"), 400, call(), PLAIN, "leave out tools"),
    ("no-tools", error("JSON mode is not enabled for this model"), 400, call(OLD), PLAIN, "JSON mode"),
    ("location", errors.named("400-location", NANO, "", "").body(), 400, call(), PLAIN, "not where you are"),
    (
        "no-free-tier",
        error("Gemini API free tier is not available in your country. Please enable billing.", "FAILED_PRECONDITION"),
        400,
        call(),
        PLAIN,
        "billing",
    ),
    ("no-access", error("The caller does not have permission", "PERMISSION_DENIED"), 403, call(), PLAIN, "tier"),
    ("quota-minute", errors.named("429", NANO, "", "").body(), 429, call(), PLAIN, "come back in 45 s."),
    ("quota-minute", violated("GenerateRequestsPerMinutePerProjectPerModel", "12.2s"), 429, call(), LARGE, "in 13 s."),
    ("quota-minute", errors.named("429-project", NANO, "", "").body(), 429, call(), PLAIN, "within a minute"),
    ("quota-day", violated("GenerateRequestsPerDayPerProjectPerModel", "9s"), 429, call(), PLAIN, "midnight Pac"),
    ("quota-free-pictures", violated("XPerDayPerModel-FreeTier"), 429, call(), PLAIN, "draws no pictures"),
    ("quota-free-tier", violated("XPerMinutePerModel-FreeTier"), 429, call(TEXT), PLAIN, "limits are low"),
    ("quota-spend", errors.named("429-spend", NANO, "", "").body(), 429, call(), PLAIN, "ten minutes"),
    ("quota-prepaid", errors.named("429-prepaid", NANO, "", "").body(), 429, call(), PLAIN, "paying does"),
    ("quota-untold", errors.named("429-exhausted", NANO, "", "").body(), 429, call(), PLAIN, "half a minute"),
    ("google-failed", errors.named("500", NANO, "", "").body(), 500, call(), LARGE, "after a pause"),
    ("overloaded", errors.named("503", NANO, "", "").body(), 503, call(), PLAIN, "another model"),
    ("overloaded", errors.named("503-service", NANO, "", "").body(), 503, call(), PLAIN, "no room"),
    ("deadline", errors.named("504", NANO, "", "").body(), 504, call(), BodyFacts(image_size="1K"), "Try again"),
    ("deadline-picture", errors.named("504", NANO, "", "").body(), 504, call(), LARGE, "Ask for 1K"),
    ("deadline-picture", errors.named("504", NANO, "", "").body(), 504, call(TEXT), WITH_PICTURES, "smaller pictures"),
]


@pytest.mark.parametrize(("name", "body", "status", "of", "facts", "says"), CASES)
def test_an_error_that_is_known_is_told(
    name: str, body: object, status: int, of: Call, facts: BodyFacts, says: str
) -> None:
    found = told(body, status, of, facts)
    assert found is not None
    assert found.name == name
    assert says in found.sentence


@pytest.mark.parametrize(
    ("body", "status", "of"),
    [
        (b"", 500, call()),
        (b"<html>Error 500 INTERNAL</html>", 500, call()),
        (b'{"error": "INTERNAL"}', 500, call()),
        (b'{"error": {"message": 7, "status": ["INTERNAL"]}}', 500, call()),
        (b"[" * 100_000, 429, call()),
        (b"[" * 5_000, 429, call()),
        (error("x" * exhausted.TOLD_BYTES + " Resource has been exhausted"), 429, call()),
        (error("no such file", "NOT_FOUND"), 404, call(OLD)),
        (error("no", "NOT_FOUND"), 404, openai("openai.chat.completions")),
        (unknown("generationConfig"), 400, call()),
        (unknown("temperatur"), 400, call()),
        (unknown("prompt", "contents[0]"), 400, call()),
        (unknown("responseModalities", "contents"), 400, call()),
        (unknown("imageSize", "generation_config.image_config"), 400, call()),
        (unknown("contents"), 400, call()),
        (unknown("whatever"), 400, ON_CHAT),
        (error("Function calling is not enabled for models/x"), 400, call(TEXT)),
        (error("Image size 9K is not supported for this model"), 400, call("new")),
        (error("Request contains an invalid argument."), 400, call()),
        (error("Say: User location is not supported", "FAILED_PRECONDITION"), 400, call()),
        (error("gone", "FAILED_PRECONDITION"), 403, call()),
        (error(QUOTA, "RESOURCE_EXHAUSTED"), 429, call()),
        (violated("SomethingElse", "5s"), 429, call()),
        (error("The operation was cancelled.", "CANCELLED"), 499, call()),
        (error("An internal error", "INTERNAL"), 418, call()),
    ],
)
def test_an_error_that_is_not_known_is_not_told(body: object, status: int, of: Call) -> None:
    assert told(body, status, of) is None


def test_the_first_unknown_name_that_is_known_elsewhere_counts() -> None:
    """Google lists all of them, one in a line."""
    lines = [unknown(name)["error"]["message"] for name in ("foo", "imageSize", "prompt")]
    found = told(error("\n".join(lines)), 400)
    assert found is not None
    assert found.name == "misplaced-field"


def test_a_quota_told_again_is_told_as_the_first_time() -> None:
    """Where all upstreams are over it, the body is Google's own, and so is the hint."""
    retold = NoUpstream("none", 1000, violated("GenerateRequestsPerDayPerProjectPerModel")["error"])
    found = error_hints.of_refusal(retold, NANO)
    assert found is not None
    assert found.name == "quota-day"


def test_a_refusal_has_the_hint_that_it_bears_and_mostly_none() -> None:
    credential = ProxyRefused(Reason.UPSTREAM_CREDENTIAL_REFUSED, "no")
    assert error_hints.of_refusal(credential) == hint("operators-key")
    own = Hint("a", "b")
    assert error_hints.of_refusal(Refusal(Reason.BAD_REQUEST, "no", own)) == own
    assert error_hints.of_refusal(Refusal(Reason.BAD_REQUEST, "no")) is None
    assert error_hints.of_refusal(NoUpstream("none", 1000)) is None


FRAGMENTS = (
    'Unknown name "',
    'imageSize"',
    " at 'generation_config'",
    ": Cannot find field",
    "Aspect ratio ",
    " is not supported",
    " is not found for API version ",
    "User location is not supported",
    "Resource has been exhausted",
    "<b>\u2028\r\nx-evil: 1",
)
statuses = st.sampled_from([400, 403, 404, 429, 500, 503, 504]) | st.integers(400, 599)
leaves = st.none() | st.integers() | st.sampled_from(["INTERNAL", "1e9s", "9s", "XPerDay", "XPerMinute-FreeTier"])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["violations", "quotaId", "retryDelay", "@type"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    status=statuses,
    message=st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=9), max_size=9).map("".join) | leaves,
    word=trees,
    details=trees,
    model=st.sampled_from([NANO, OLD, TEXT, "imagen-4.0-x"]),
)
def test_whatever_an_error_holds_what_is_told_can_be_a_header(
    status: int, message: object, word: object, details: object, model: str
) -> None:
    """Nothing raises, and none of its own words are in what is told."""
    found = told({"error": {"message": message, "status": word, "details": details}}, status, call(model))
    if found is not None:
        assert found.name in SENTENCES
        assert found.sentence.isascii()
        assert found.sentence.isprintable()
        assert "evil" not in found.sentence
        assert len(found.sentence) <= LONGEST


@given(st.binary(max_size=200), statuses)
def test_whatever_an_error_is_nothing_raises(body: bytes, status: int) -> None:
    told(body, status)
