"""Who gets in: whoever brings the token, exactly; and no page in a browser."""

from __future__ import annotations

import httpx2
import pytest
import structlog

from proxy.config import secrets
from proxy.telemetry.redaction import redact
from tests.control.admin.conftest import TOKEN, Admin

pytestmark = pytest.mark.anyio

PATHS = ["/admin/v1/adjustments", "/admin/v1/nothing", "/admin/", "/admin/v2"]


async def ask(admin: Admin, path: str = PATHS[1], **headers: str) -> httpx2.Response:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    async with httpx2.AsyncClient() as client:
        return await client.get(f"{admin.url}{path}", headers=raw)


NOT_THE_TOKEN = [
    "Bearer wrong-token-of-some-length",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN.upper()}",
    "Bearer",
    "Bearer \t.",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer \xe4\xf6\xfc",
]
ORIGINS = ["http://evil.example", "null", "https://127.0.0.1", "file://", "http://[", "\xff"]
SAID = {
    "event": "admin_refused",
    "path": "/admin/v1/nothing",
    "client": "127.0.0.1",
    "why": "unauthorized",
    "log_level": "warning",
}


async def test_without_a_token_no_path_tells_whether_it_exists(admin: Admin) -> None:
    for path in PATHS:
        answer = await ask(admin, path)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == 'Bearer realm="weighbridge"'
        assert answer.json()["type"] == "/docs/admin-api#unauthorized"


async def test_what_is_not_the_token_is_refused_and_said_in_the_log_without_it(admin: Admin) -> None:
    for value in NOT_THE_TOKEN:
        with structlog.testing.capture_logs() as said:
            answer = await ask(admin, authorization=value)
        assert answer.status_code == 401, value
        assert answer.headers["www-authenticate"] == 'Bearer realm="weighbridge", error="invalid_token"'
        assert TOKEN not in answer.text
        assert said == [SAID]


async def test_a_long_path_with_the_token_in_it_is_told_without_any_part_of_it(admin: Admin) -> None:
    """An operator's own token has no shape that half of it could be known by."""
    token = secrets.remember("ninety-nine.red.balloons")
    for before in range(150, 200):
        with structlog.testing.capture_logs() as said:
            await ask(admin, f"/admin/v1/{'x' * (before - 10)}{token}")
        path = redact(said[0]["path"])  # as a line is, when it is written
        assert len(path) < 300
        assert not any(token[at : at + 4] in path for at in range(len(token) - 3)), path


async def test_the_scheme_is_read_in_any_case(admin: Admin) -> None:
    assert (await ask(admin, authorization=f"bEARER  {TOKEN}")).status_code == 404


async def test_two_authorization_headers_are_refused_even_where_one_is_right(admin: Admin) -> None:
    async with httpx2.AsyncClient() as client:
        headers = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer another-one")]
        assert (await client.get(f"{admin.url}{PATHS[1]}", headers=headers)).status_code == 401


async def test_a_page_of_another_origin_is_refused_even_with_the_token(admin: Admin) -> None:
    for origin in ORIGINS:
        answer = await ask(admin, authorization=f"Bearer {TOKEN}", origin=origin)
        assert (answer.status_code, answer.json()["type"]) == (403, "/docs/admin-api#forbidden-origin"), origin
        assert not any(name.startswith("access-control-") for name in answer.headers)


async def test_a_page_of_the_door_itself_may_ask_with_the_token_only(admin: Admin) -> None:
    assert (await ask(admin, authorization=f"Bearer {TOKEN}", origin=admin.url)).status_code == 404
    assert (await ask(admin, origin=admin.url)).status_code == 401


async def test_a_name_that_was_bound_to_this_address_gets_a_page_nowhere(admin: Admin) -> None:
    """DNS rebinding: origin and host agree, and the page has no token."""
    assert (await ask(admin, host="evil.example", origin="http://evil.example")).status_code == 401


async def test_health_and_metrics_stay_open(admin: Admin) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await ask(admin, path)).status_code == 200
