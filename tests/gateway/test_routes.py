"""The gateway door's own paths, and what a browser is told."""

from __future__ import annotations

from collections.abc import Collection

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.gateway.routes import Gateway
from tests.gateway.wire import door, parse
from tests.servers import running


def answering(name: bytes) -> ASGIApp:
    """An app that answers with its name."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        length = (b"content-length", b"%d" % len(name))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": name})

    return app


def gateway(origins: Collection[str] = ("*",), *, ready: bool = True) -> Gateway:
    apps = map(answering, (b"relay", b"account", b"models", b"images"))
    return Gateway(*apps, ready=lambda: ready, cors_origins=origins)


def test_health_is_ours_and_all_else_is_the_relays() -> None:
    with running(gateway(ready=False)) as url:
        assert httpx2.get(f"{url}/healthz").text == "ok\n"
        assert httpx2.get(f"{url}/readyz").status_code == 503
        assert httpx2.get(f"{url}/anything").text == "relay"
        assert httpx2.get(f"{url}/weighbridge/v1/usage").text == "account"
        assert httpx2.get(f"{url}/weighbridge").text == "relay"
        assert httpx2.get(f"{url}/openai/v1/models").text == "models"
        assert httpx2.get(f"{url}/openai/v1/models/gemini-3-pro-image").text == "models"
        assert httpx2.get(f"{url}/v1/models").text == "relay", "Google's own"
        for path in (
            "/v1/images/generations",
            "/openai/v1/images/edits",
            "/v1//images/variations",
            "/v1/v1/images/edits",
        ):
            assert httpx2.post(f"{url}{path}").text == "images"
        for path in ("/v1beta/openai/images/generations", "/v1beta/images/generations", "/images/generations"):
            assert httpx2.post(f"{url}{path}").text == "relay"


def test_a_page_may_read_the_account_as_it_may_any_answer() -> None:
    with running(gateway()) as url:
        answer = httpx2.get(f"{url}/weighbridge/v1/usage", headers={"origin": "https://app.example"})
    assert (answer.text, answer.headers["access-control-allow-origin"]) == ("account", "*")


def test_a_preflight_is_answered_for_every_path_without_a_key() -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    with running(gateway()) as url:
        answer = httpx2.options(f"{url}/v1beta/models/m:generateContent", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"].split(", ") == [
        "authorization",
        "content-type",
        "x-goog-api-client",
        "x-goog-api-key",
        "x-api-key",
        "x-server-timeout",
    ]


def test_a_page_may_read_the_answer_and_the_headers_that_sdks_look_at() -> None:
    with running(gateway()) as url:
        answer = httpx2.get(f"{url}/x", headers={"origin": "https://app.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    ours = ["x-weighbridge-request-id", "x-weighbridge-refused", "x-weighbridge-hint"]
    assert exposed == ["retry-after", *ours, "x-gemini-service-tier"]


@pytest.mark.parametrize(("origin", "allowed"), [("https://app.example", True), ("https://evil.example", False)])
def test_only_listed_origins_are_let_in_where_there_is_a_list(origin: str, allowed: bool) -> None:
    with running(gateway(["https://app.example"])) as url:
        answer = httpx2.get(f"{url}/x", headers={"origin": origin})
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert answer.headers["vary"] == "Origin"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("asked", "status"), [(b"GET /healthz", 200), (b"GET /readyz", 503), (b"OPTIONS /x", 204), (b"GET /x", 200)]
)
async def test_what_the_relay_has_no_part_in_bears_a_request_id_as_well(asked: bytes, status: int) -> None:
    async with door(gateway(ready=False)) as served:
        head = asked + b" HTTP/1.1\r\nhost: x\r\norigin: https://a.example\r\nconnection: close\r\n\r\n"
        answer = parse(await served.ask(head))
    assert (answer.status, answer.headers[b"x-weighbridge-request-id"]) == (status, b"request-1")


def test_who_is_no_browser_gets_no_cors_headers() -> None:
    with running(gateway()) as url:
        assert not [name for name in httpx2.get(f"{url}/x").headers if name.startswith("access-control")]
