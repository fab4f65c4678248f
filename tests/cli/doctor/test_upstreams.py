"""What an upstream's answer to a list of models tells of the key, the project, the region and the clock."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.doctor.findings import Finding, Verdict
from proxy.cli.doctor.upstreams import check_upstream, clock
from proxy.config.upstreams import Upstream
from proxy.emulator import errors
from proxy.emulator.app import DEFAULT_KEY
from proxy.emulator.models import MODELS
from tests.certificates import make_certificate, server_context
from tests.scripted import listening, says, scripted
from tests.stand import emulator
from tests.upstreams.forward_proxy import forwarding
from tests.upstreams.origin import Peer, Security, serving


def look(base_url: str, wanted: list[str] | None = None, **settings: Any) -> list[Finding]:
    upstream = Upstream.model_validate(
        {"name": "google", "base_url": base_url, "api_key": DEFAULT_KEY, "api_key_env": "KEY"} | settings
    )
    return list(check_upstream(upstream, wanted or [], time.time))


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refused(name: str) -> bytes:
    error = errors.named(name, "m", "v1beta", "listModels")
    return answer(error.code, error.body())


def test_an_upstream_that_takes_the_key_tells_its_models(upstream: str) -> None:
    clocks, models = look(upstream, ["gemini-3.8-flash"])
    assert clocks.what == "its clock and this machine's agree"
    assert (models.verdict, f"{len(MODELS)} models" in models.what) == (Verdict.OK, True)


def test_models_that_it_does_not_offer_are_named(upstream: str) -> None:
    missing = look(upstream, ["gemini-3.8-flash", *(f"gone-{number}" for number in range(10))])[-1]
    assert missing.verdict is Verdict.WARNING
    assert "gone-0, gone-1" in missing.what
    assert missing.what.endswith("gone-7 and 2 more")


def test_a_list_in_pages_is_read_to_its_end() -> None:
    pages = [{"models": [{"name": "models/a"}], "nextPageToken": "more"}, {"models": [{"name": "models/b"}]}]

    def next_page(connection: Any) -> None:
        connection.sendall(answer(200, json.dumps(pages[len(script.received) - 1]).encode()))

    with scripted(next_page) as script:
        (found,) = look(script.base_url, ["a", "b"])
    assert "2 models" in found.what
    assert [b"pageToken" in request.target for request in script.received] == [False, True]


def test_a_wrong_key_is_told_with_where_to_put_a_new_one() -> None:
    with emulator(keys={"another"}) as url:
        found = look(url)[-1]
    assert (found.verdict, "API key not valid" in found.what) == (Verdict.PROBLEM, True)
    assert found.do.endswith("put it where upstreams.api_key_env says; the server takes it by a restart")


def test_a_key_sent_as_a_bearer_token_is_told() -> None:
    with emulator() as url, emulator(bearer=True) as takes_it:
        found = look(url, auth="bearer")[-1]
        assert look(takes_it, auth="bearer")[-1].verdict is Verdict.OK
    assert (found.verdict, 'auth = "x-goog-api-key"' in found.do) == (Verdict.PROBLEM, True)


@pytest.mark.parametrize(
    ("name", "verdict", "what", "do"),
    [
        ("403", Verdict.PROBLEM, "project 123456789012", "enable the Generative Language API"),
        ("400-location", Verdict.PROBLEM, "User location is not supported", "Google doesn't serve this region"),
        ("429-project", Verdict.WARNING, "project_number:123456789012", "try again later"),
        ("503", Verdict.WARNING, "answers 503: The model is overloaded", "try again later"),
    ],
)
def test_googles_errors_are_told_with_the_project_that_they_are_about(
    name: str, verdict: Verdict, what: str, do: str
) -> None:
    with scripted(says(refused(name))) as script:
        (found,) = look(script.base_url)
    assert (found.verdict, what in found.what, do in found.do) == (verdict, True, True), found


def test_a_key_that_may_not_call_this_api_is_told_with_its_project() -> None:
    error = errors.key_echoed("some-key")
    with scripted(says(answer(error.code, error.body()))) as script:
        (found,) = look(script.base_url)
    assert found.what.endswith("are blocked. (project 123456789012)")
    assert "allow the Generative Language API" in found.do


@pytest.mark.parametrize(
    "raw",
    [
        answer(200, b"<html>a portal</html>"),
        answer(200, b'{"models": 3}'),
        answer(200, b"[]"),
        answer(404, b"no such page"),
        answer(302, b"", "location: https://elsewhere.example.com/"),
        answer(400, b'{"error": []}'),
    ],
)
def test_what_is_no_list_of_models_is_told(raw: bytes) -> None:
    with scripted(says(raw)) as script:
        (found,) = look(script.base_url)
        assert len(script.received) == 1, "a redirect isn't followed: the key would go along"
    assert (found.verdict, "base_url may lead elsewhere" in found.do) == (Verdict.PROBLEM, True)


def test_an_upstream_that_cannot_be_reached_is_told() -> None:
    assert look("http://127.0.0.1:1")[0].verdict is Verdict.PROBLEM
    with listening(lambda connection: connection.close()) as closes:
        assert look(closes)[0].verdict is Verdict.PROBLEM
        assert look(closes.replace("http", "https"))[0].verdict is Verdict.PROBLEM


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0, Verdict.OK), (4, Verdict.OK), (20, Verdict.WARNING), (-20, Verdict.WARNING), (120, Verdict.PROBLEM)],
)
def test_a_clock_that_differs_is_told(seconds: float, verdict: Verdict) -> None:
    with emulator(clock=lambda: time.time() + seconds) as url:
        found = look(url)[0]
    assert found.verdict is verdict
    if verdict is not Verdict.OK:
        assert ("behind" if seconds > 0 else "ahead of") in found.what


def test_a_slow_answer_says_less_of_the_clock_and_none_says_nothing() -> None:
    assert [finding.verdict for finding in clock("Thu, 01 Jan 1970 00:00:10 GMT", 0, 10)] == [Verdict.OK]
    assert [finding.verdict for finding in clock("Thu, 01 Jan 1970 00:00:10 GMT", 0, 0)] == [Verdict.WARNING]
    assert list(clock(None, 0, 0)) == list(clock("yesterday", 0, 0)) == []


@pytest.mark.anyio
async def test_an_upstream_is_asked_by_the_way_that_its_settings_name(tmp_path: Path) -> None:
    """Its own authority, our certificate, and the forward proxy with its password."""
    authority = make_certificate(tmp_path, "authority.test")
    ours = make_certificate(tmp_path, "client.test", issuer=authority).path
    context = server_context(make_certificate(tmp_path, issuer=authority))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)

    async def script(peer: Peer) -> None:
        await peer.answer(answer(200, b'{"models": [{"name": "models/a"}]}'))

    async with serving(script, Security(context, ssl.create_default_context())) as origin, forwarding() as proxy:
        through = {"proxy_url": proxy.url.replace("//", "//al%40ice@"), "proxy_password": "pass:word"}
        tls = {"ca_file": authority.path, "client_cert_file": ours, "client_key_file": ours}
        (found,) = await asyncio.to_thread(look, origin.url, **tls, **through)
        assert (found.verdict, "1 models" in found.what) == (Verdict.OK, True), found
        assert b"Basic YWxAaWNlOnBhc3M6d29yZA==" in proxy.heads[0]
        (found,) = await asyncio.to_thread(
            look, origin.url, **{**tls, "client_cert_file": None, "client_key_file": None}
        )
        assert found.verdict is Verdict.PROBLEM
    async with forwarding(answer=b"HTTP/1.1 407 x\r\ncontent-length: 0\r\n\r\n") as proxy:
        (found,) = await asyncio.to_thread(look, "https://up.test", proxy_url=proxy.url)
        assert (found.verdict, "407" in found.what, "proxy_url" in found.do) == (Verdict.PROBLEM, True, True)
