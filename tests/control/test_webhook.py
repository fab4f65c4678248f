"""One attempt: what it bears, how it is signed, and what is made of whatever comes of it."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.control import webhook
from proxy.control.webhook import Answer, Webhook
from tests.control.receiving import SECRET, header, receiver, status
from tests.scripted import scripted
from tests.sdk.node import NODE

DOCS = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")
BODY = b'{"id":"evt_1","type":"test","data":{"name":"Zo\xc3\xab"}}'


def snippet(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCS.partition("## Verifying")[2], re.DOTALL)
    assert found is not None
    return found[1]


def test_it_signs_as_standard_webhooks_published_example() -> None:
    signed = Webhook("https://x.example/", SECRET).headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1_614_265_330
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_the_docs_say_of_the_signature_tells_ours_from_others_in_python() -> None:
    published: dict[str, Any] = {}
    exec(snippet("python"), published)
    is_ours, now = published["is_ours"], int(time.time())
    headers = Webhook("https://x.example/", SECRET).headers("evt_1", BODY, now)
    assert is_ours(SECRET, headers, BODY)
    assert is_ours(SECRET, headers | {"webhook-signature": f"v1,other {headers['webhook-signature']}"}, BODY)
    assert not is_ours(SECRET, headers, BODY + b" ")
    assert not is_ours(SECRET, headers | {"webhook-id": "evt_2"}, BODY)
    assert not is_ours(SECRET, headers | {"webhook-timestamp": str(now + 1)}, BODY)
    assert not is_ours(SECRET.replace("M", "N"), headers, BODY)
    assert not is_ours(SECRET, Webhook("https://x.example/", SECRET).headers("evt_1", BODY, now - 301), BODY)


def test_what_the_docs_say_of_the_signature_tells_ours_from_others_in_javascript() -> None:
    hook, now = Webhook("https://x.example/", SECRET), int(time.time())
    cases = [
        (hook.headers("evt_1", BODY, now), BODY),
        (hook.headers("evt_1", BODY, now), BODY + b" "),
        (hook.headers("evt_1", BODY, now - 301), BODY),
        (hook.headers("evt_1", BODY, now) | {"webhook-signature": "v1,short"}, BODY),
    ]
    calls = [f"isOurs({SECRET!r}, {headers!r}, Buffer.from({body.hex()!r}, 'hex'))" for headers, body in cases]
    script = f"{snippet('javascript')}\nconsole.log(JSON.stringify([{','.join(calls)}]))"
    done = subprocess.run([NODE, "-e", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[true,false,false,false]\n", "")


async def attempt(url: str, body: bytes = BODY) -> Answer:
    hook = Webhook(url, SECRET)
    try:
        return await hook.send("evt_1", body, 1_795_262_400)
    finally:
        await hook.aclose()


async def test_an_attempt_is_a_post_of_the_body_as_it_is_with_three_headers() -> None:
    with receiver() as script:
        answer = await attempt(f"{script.base_url}/hooks?for=us")
    (request,) = script.received
    assert (answer.taken, answer.status) == (True, 204)
    assert (request.method, request.target, request.body) == (b"POST", b"/hooks?for=us", BODY)
    assert header(request, "content-type") == "application/json"
    assert (header(request, "webhook-id"), header(request, "webhook-timestamp")) == ("evt_1", "1795262400")
    assert header(request, "webhook-signature").startswith("v1,")


async def test_a_redirect_is_not_followed() -> None:
    with receiver() as elsewhere, receiver(lambda _: status(302, f"location: {elsewhere.base_url}/")) as script:
        answer = await attempt(script.base_url)
    assert (answer.taken, answer.lets_others_pass, answer.said) == (False, False, "302")
    assert (len(script.received), elsewhere.received) == (1, [])


@pytest.mark.parametrize(
    ("number", "taken", "lets_others_pass"),
    [
        *((200, True, True), (202, True, True), (299, True, True), (301, False, False), (400, False, True)),
        *((404, False, True), (410, False, True), (408, False, False), (425, False, False), (429, False, False)),
        *((500, False, False), (503, False, False)),
    ],
)
def test_what_a_status_means(number: int, taken: bool, lets_others_pass: bool) -> None:
    answer = Answer(number, str(number))
    assert (answer.taken, answer.lets_others_pass) == (taken, lets_others_pass)


@pytest.mark.parametrize(
    ("said", "waits"),
    [("120", 120), ("999999", 3600), ("Wed, 21 Oct 2026 07:28:00 GMT", 0), ("-1", 0), ("9" * 5000, 0)],
)
async def test_how_long_to_wait_is_heeded_up_to_an_hour(said: str, waits: int) -> None:
    with receiver(lambda _: status(503, f"retry-after: {said}")) as script:
        assert (await attempt(script.base_url)).retry_after_s == waits


async def test_no_answer_is_told_by_why_and_holds_up_the_others() -> None:
    with receiver(lambda _: None) as lost:
        answer = await attempt(lost.base_url)
    assert (answer.status, answer.taken, answer.lets_others_pass, len(lost.received)) == (None, False, False, 1)
    refused = await attempt("http://127.0.0.1:1/path-with-a-secret")
    assert refused.status is None
    assert refused.said
    assert "secret" not in refused.said


async def test_a_receiver_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "ANSWERED_WITHIN_S", 0.2)
    with scripted() as silent:
        answer = await attempt(silent.base_url)
    assert answer.said == "no answer within 0.2 s"


async def test_a_receiver_that_answers_without_an_end_is_not_listened_to() -> None:
    with receiver(lambda _: b"HTTP/1.1 200 X\r\ncontent-length: 1000000000000\r\n\r\n" + b"x" * 10_000) as script:
        assert (await attempt(script.base_url)).taken


def test_neither_secret_nor_path_is_in_its_repr() -> None:
    assert repr(Webhook("https://x.example:8443/hidden?a=b", SECRET)) == "<Webhook x.example:8443>"
