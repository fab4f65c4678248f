"""Hints through a whole Weighbridge: in the header where the mistake is plain, in the record, and nowhere else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.billing.records import UsageRecord
from proxy.gemini.hints import SENTENCES, hint
from proxy.store.database import open_database
from proxy.tenants import keys
from tests.journeys.watching import DEADLINE_S, body, until
from tests.scripted import Scripted, says, scripted
from tests.stand import Weighbridge, weighbridge

NANO, PRO, OLD = "gemini-nano-banana-2.1", "gemini-3-pro-image", "gemini-2.5-flash-image"
TEXT = "gemini-3.8-flash"
SMALL = {"imageConfig": {"imageSize": "512"}}


@pytest.fixture(scope="module")
def stand(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("hints"), upstream) as running:
        yield running


@pytest.fixture(scope="module")
def script() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture(scope="module")
def raw(script: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    """In front of an upstream that answers whatever a test says."""
    with weighbridge(tmp_path_factory.mktemp("raw"), script.base_url) as running:
        yield running


@pytest.fixture(scope="module")
def key(stand: Weighbridge) -> str:
    return stand.key()


@pytest.fixture(scope="module")
def raw_key(raw: Weighbridge) -> str:
    return raw.key()


def call(at: Weighbridge, key: str, model: str, prompt: str, config: object = None, path: str = "") -> httpx2.Response:
    content = body(prompt) | ({"generationConfig": config} if config else {})
    where = at.base_url + (path or f"/v1beta/models/{model}:generateContent")
    return httpx2.post(where, json=content, headers={"x-goog-api-key": key}, timeout=DEADLINE_S)


def told(answer: httpx2.Response) -> str | None:
    found: str | None = answer.headers.get("x-weighbridge-hint")
    return found


def is_told(sentence: str | None, name: str | None) -> bool:
    """Whether the sentence is that of the hint, filled in; None is that of no hint."""
    if sentence is None or name is None:
        return sentence is name
    pieces = re.split(r"\{\w+\}", SENTENCES[name])
    return re.fullmatch("[^{}]+".join(map(re.escape, pieces)), sentence) is not None


def record_of(at: Weighbridge, answer: httpx2.Response) -> UsageRecord:
    request_id = answer.headers["x-weighbridge-request-id"]
    (found,) = (record for record in at.records() if record.request_id == request_id)
    return found


def test_a_call_without_a_mistake_bears_no_hint(stand: Weighbridge, key: str) -> None:
    """Neither of text nor of a picture; single and streamed."""
    single = call(stand, key, TEXT, "hi")
    streamed = call(stand, key, "", "hi", path=f"/v1beta/models/{TEXT}:streamGenerateContent?alt=sse")
    picture = call(stand, key, NANO, "a cat [[images=1]]", SMALL)
    for answer in (single, streamed, picture):
        assert answer.status_code == 200
        assert told(answer) is None
        assert record_of(stand, answer).hint is None


@pytest.mark.parametrize("path", ["/v1beta/v1beta/", "/v1beta/v1/", "/v1/v1/v1/"])
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent", "countTokens"])
def test_a_version_that_stands_twice_is_understood_and_told(
    stand: Weighbridge, key: str, path: str, method: str
) -> None:
    answer = call(stand, key, "", "hi", path=f"{path}models/{TEXT}:{method}")
    assert (answer.status_code, told(answer)) == (200, SENTENCES["version-twice"])
    if method != "countTokens":  # which is free
        assert record_of(stand, answer).hint == SENTENCES["version-twice"]


@pytest.mark.parametrize(
    ("model", "config", "name", "status"),
    [
        (NANO, {"responseModalities": ["TEXT"]}, "no-image-modality", 200),
        (NANO, {"imageConfig": {"imageSize": "1k"}}, "size-in-capitals", 400),
        (PRO, {"imageConfig": {"imageSize": "512"}}, "size-not-offered", 400),
        (OLD, {"imageConfig": {"imageSize": "1K"}}, "no-sizes", 400),
        (PRO, {"imageConfig": {"aspectRatio": "1:8"}}, "ratio-not-offered", 400),
    ],
)
def test_a_plain_mistake_in_the_body_is_told_whatever_is_answered(
    stand: Weighbridge, key: str, model: str, config: dict[str, Any], name: str, status: int
) -> None:
    """In the header and in the record; an upstream that knows better what is wrong has been told of, too."""
    answer = call(stand, key, model, "a cat", config)
    sentence = told(answer)
    assert answer.status_code == status
    assert is_told(sentence, name)
    assert record_of(stand, answer).hint == sentence


@pytest.mark.parametrize(
    ("directive", "model", "name"),
    [
        ("status=404", OLD, "model-retired"),
        ("status=404", PRO, "model-access"),
        ("status=404", TEXT, "model-unknown"),
        ("status=400-location", TEXT, "location"),
        ("status=429", TEXT, "quota-minute"),
        ("status=429-spend", TEXT, "quota-spend"),
        ("status=429-prepaid", TEXT, "quota-prepaid"),
        ("status=429-exhausted", TEXT, "quota-untold"),
        ("status=500", TEXT, "google-failed"),
        ("status=503", TEXT, "overloaded"),
        ("status=504", TEXT, "deadline"),
        ("status=401", TEXT, "operators-key"),
        ("status=400", TEXT, None),
        ("status=499", TEXT, None),
    ],
)
def test_an_error_of_googles_is_told_by_its_words(
    stand: Weighbridge, key: str, directive: str, model: str, name: str | None
) -> None:
    answer = call(stand, key, model, f"hi [[{directive}]]")
    sentence = told(answer)
    assert answer.status_code >= 400
    assert "hint" not in answer.text
    assert is_told(sentence, name)
    assert record_of(stand, answer).hint == sentence


def test_an_error_is_told_before_a_mistake_in_the_request(stand: Weighbridge, key: str) -> None:
    """One hint at most: of a model that is gone it doesn't help to know which sizes it took."""
    path = f"/v1/v1/models/{OLD}:generateContent"
    answer = call(stand, key, OLD, "a cat [[status=404]]", {"imageConfig": {"imageSize": "1K"}}, path)
    assert answer.headers.get_list("x-weighbridge-hint") == [
        hint("model-retired", model=OLD, date="2026-10-02", successor=NANO).sentence
    ]


@pytest.mark.parametrize(
    ("prompt", "model", "name"),
    [
        ("[[block=SAFETY]]", TEXT, "prompt-blocked"),
        ("[[refuse=IMAGE_SAFETY]]", NANO, "picture-withheld"),
        ("[[refuse=PROHIBITED_CONTENT]]", NANO, "picture-withheld"),
        ("[[refuse=NO_IMAGE]]", NANO, "nothing-drawn"),
        ("[[refuse=MAX_TOKENS]]", NANO, "cap-before-picture"),
        ("[[refuse=SAFETY]]", TEXT, "answer-withheld"),
        ("[[images=0]]", NANO, "text-only"),
        ("[[images=2]]", NANO, "several-pictures"),
        ("[[usage=none]]", TEXT, "no-usage"),
        ("[[model-version=gemini-x]]", TEXT, "other-model"),
        ("hi", "gemini-3.7-flash", "other-model"),
        ("[[finish=MAX_TOKENS]]", TEXT, None),
        ("[[finish=OTHER]]", TEXT, None),
        ("[[model-version=gemini-3.8-flash-001]]", TEXT, None),
    ],
)
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent?alt=sse"])
def test_what_only_the_answer_shows_stands_in_the_record(
    stand: Weighbridge, key: str, prompt: str, model: str, name: str | None, method: str
) -> None:
    """Not in the header, which has left by then."""
    answer = call(stand, key, model, prompt, SMALL if model == NANO else None, f"/v1beta/models/{model}:{method}")
    assert (answer.status_code, told(answer)) == (200, None)
    found = record_of(stand, answer).hint
    assert is_told(found, name)


def test_the_record_shows_its_hint_to_operator_and_caller(stand: Weighbridge, key: str) -> None:
    """`usage export` and /weighbridge/v1/calls/ID."""
    answer = call(stand, key, NANO, "[[refuse=IMAGE_SAFETY]]", SMALL)
    request_id, sentence = answer.headers["x-weighbridge-request-id"], record_of(stand, answer).hint
    exported = [json.loads(line) for line in stand.run("usage", "export", "--format", "jsonl").splitlines()]
    assert [record["hint"] for record in exported if record["request_id"] == request_id] == [sentence]
    url = f"{stand.base_url}/weighbridge/v1/calls/{request_id}"
    shown = httpx2.get(url, headers={"x-goog-api-key": key}, timeout=DEADLINE_S).json()
    assert [record["hint"] for record in shown["records"]] == [sentence]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/projects/p/locations/l/publishers/google/models/m:generateContent", "vertex-path"),
        ("/v1beta1/publishers/google/models/m:generateContent", "vertex-path"),
        ("/v1beta/models/$MODEL:generateContent", "shell-variable"),
        ("/v1beta/models/%24%7BMODEL%7D:generateContent", "shell-variable"),
        ("/v1beta/models/imagen-4.0-generate-001:predict", "imagen"),
        ("/upload/v1beta/files", "send-inline"),
        ("/v1beta/cachedContents", "send-inline"),
        ("/v1beta/models/{model}:generateContent", None),
        ("/v1beta/models/gemini-2.5-flash-image:predict", None),
        ("/v1beta/models/m:inventContent", None),
        ("/v1beta/fileSearchStores", None),
        ("/v9/models/m:generateContent", None),
    ],
)
def test_a_path_that_is_not_served_is_told_what_its_message_leaves_out(
    stand: Weighbridge, key: str, path: str, name: str | None
) -> None:
    answer = call(stand, key, "", "hi", path=path)
    assert answer.status_code in (400, 404)
    sentence = told(answer)
    assert is_told(sentence, name)


@pytest.mark.parametrize(
    ("headers", "query", "name"),
    [
        ({}, "", "no-key"),
        ({}, "?alt=json", "no-key"),
        ({"x-goog-api-key": ""}, "", "empty-key"),
        ({"authorization": "Bearer"}, "", "empty-key"),
        ({}, "?key=", "empty-key"),
        ({"x-goog-api-key": "AIzaSyA1234567890abcdefghijklmnopqrstuvw"}, "", "googles-key"),
        ({"authorization": "Bearer AIzaSyA1234567890abcdefghijklmnopqrstuvw"}, "", "googles-key"),
        ({"x-goog-api-key": "AIzaSyA1234567890abcdefghijklmnopqrstuvw", "x-api-key": "wb_x"}, "", "two-keys"),
        ({"x-goog-api-key": "AIzaSyA1234567890abcdefghijklmnopqrstuvw"}, "?key=wb_x", "two-keys"),
        ({"x-goog-api-key": "wb_y", "x-api-key": "wb_x"}, "", None),
        ({"x-goog-api-key": "$KEY"}, "", "placeholder-key"),
        ({"x-goog-api-key": "wb_cut"}, "", "broken-key"),
        ({"x-goog-api-key": "nonsense"}, "", None),
    ],
)
def test_a_key_that_is_not_valid_is_told_by_its_looks(
    stand: Weighbridge, headers: dict[str, str], query: str, name: str | None
) -> None:
    """On the Gemini surface and on the account's; no character of it is repeated."""
    for path in (f"/v1beta/models/{TEXT}:generateContent", "/weighbridge/v1/limits"):
        method = "GET" if path.startswith("/weighbridge") else "POST"
        url = stand.base_url + path + ("" if method == "GET" and query == "?alt=json" else query)
        answer = httpx2.request(method, url, json=body("hi"), headers=headers, timeout=DEADLINE_S)
        assert answer.status_code in (400, 403)
        sentence = told(answer)
        assert is_told(sentence, name), path


def test_a_key_that_is_in_force_no_more_is_told_so(stand: Weighbridge) -> None:
    was = stand.key("alice", "old")
    database = open_database(stand.storage)
    (old,) = (one for one in keys.list_keys(database, "alice") if one.name == "old")
    keys.revoke(database, old.id, time.time_ns() // 1000, actor="test")
    answer = until(lambda: refused if (refused := call(stand, was, TEXT, "hi")).status_code == 400 else None, "refused")
    assert told(answer) == SENTENCES["ended-key"]


def test_upstreams_dont_speak_for_us(raw: Weighbridge, script: Scripted, raw_key: str) -> None:
    """An upstream's own header of that name stays above, so what there is of it is ours."""
    script.answer = says(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Weighbridge-Hint: theirs\r\n"
        b"Content-Type: application/json\r\n\r\n{}"
    )
    assert told(call(raw, raw_key, TEXT, "hi")) is None
    answer = call(raw, raw_key, "", "hi", path=f"/v1/v1/models/{TEXT}:countTokens")
    assert answer.headers.get_list("x-weighbridge-hint") == [SENTENCES["version-twice"]]


def _error(http: int, status: str, message: str, *details: dict[str, Any]) -> bytes:
    error = {"code": http, "message": message, "status": status, "details": list(details)}
    said = json.dumps({"error": error}).encode()
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (http, len(said))
    return head + said


def _quota(quota_id: str) -> bytes:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}
    return _error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", failure)


@pytest.mark.parametrize(
    ("model", "said", "name"),
    [
        (TEXT, _quota("GenerateRequestsPerDayPerProjectPerModel"), "quota-day"),
        (TEXT, _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), "quota-free-tier"),
        (NANO, _quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), "quota-free-pictures"),
        (TEXT, _quota("Whatever"), None),
        (TEXT, _error(403, "PERMISSION_DENIED", "The caller does not have permission"), "no-access"),
        (TEXT, _error(400, "INVALID_ARGUMENT", 'Unknown name "prompt": Cannot find field.'), "openai-fields"),
        (
            NANO,
            _error(400, "X", "Unknown name \"imageSize\" at 'generation_config': Cannot find field."),
            "misplaced-field",
        ),
        (NANO, _error(400, "X", "Function calling is not enabled for models/x"), "no-tools"),
        ("new", _error(400, "X", "Aspect ratio 9:1 is not supported for this model"), "ratio-refused"),
        (TEXT, _error(400, "X", "the free tier is not available in your country"), "no-free-tier"),
        (TEXT, b"HTTP/1.1 500 X\r\nContent-Length: 8\r\n\r\nINTERNAL", None),
    ],
)
def test_errors_that_the_emulator_does_not_make(
    raw: Weighbridge, script: Scripted, raw_key: str, model: str, said: bytes, name: str | None
) -> None:
    script.answer = says(said)
    answer = call(raw, raw_key, model, "hi")
    sentence = told(answer)
    assert answer.content == said.partition(b"\r\n\r\n")[2]
    assert is_told(sentence, name)
    assert record_of(raw, answer).hint == sentence


def test_large_pictures_that_take_too_long_are_told_of_as_such(
    raw: Weighbridge, script: Scripted, raw_key: str
) -> None:
    script.answer = says(_error(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."))
    assert told(call(raw, raw_key, NANO, "hi", {"imageConfig": {"imageSize": "4K"}})) == SENTENCES["deadline-picture"]
    assert told(call(raw, raw_key, NANO, "hi", {"imageConfig": {"imageSize": "1K"}})) == SENTENCES["deadline"]


def test_a_picture_of_1k_in_place_of_4k_is_told(raw: Weighbridge, script: Scripted, raw_key: str) -> None:
    """By its tokens, as Google counts them."""
    for tokens, name in ((1120, "smaller-picture"), (2520, None)):
        usage = {
            "promptTokenCount": 5,
            "candidatesTokenCount": tokens,
            "totalTokenCount": tokens + 5,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": tokens}],
        }
        part = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        said = json.dumps(
            {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "usageMetadata": usage}
        ).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said)
        script.answer = says(head + said)
        answer = call(raw, raw_key, "gemini-3.1-flash-image", "hi", {"imageConfig": {"imageSize": "4K"}})
        expected = None if name is None else hint(name, asked="4K").sentence
        assert record_of(raw, answer).hint == expected


def test_a_quota_that_is_told_again_is_told_with_its_hint(tmp_path: Path) -> None:
    """Where one upstream is out already, and the other goes out in the call: its record has what the caller is told."""
    day = _quota("GenerateRequestsPerDayPerProjectPerModel")
    spent = _error(429, "RESOURCE_EXHAUSTED", "You exceeded your spend-based rate limit.")
    with scripted(says(spent)) as first, scripted(says(day)) as second:
        pool = [{"name": "first", "priority": 2}, {"name": "second", "base_url": second.base_url}]
        with weighbridge(tmp_path, first.base_url, {"upstreams": pool}) as both:
            key = both.key()
            call(both, key, TEXT, "hi")  # of the first, all models are out now
            answer = call(both, key, "gemini-3.6-flash", "hi")
            assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (429, "NO_UPSTREAM")
            assert told(answer) == SENTENCES["quota-spend"]
            assert record_of(both, answer).hint == SENTENCES["quota-spend"]
