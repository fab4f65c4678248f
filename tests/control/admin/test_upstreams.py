"""How upstreams are, as the admin API tells it, and how it switches them off and on."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from proxy.config.schema import Storage
from proxy.config.upstreams import Upstream as Configured
from proxy.control.admin import routes
from proxy.control.admin.problems import Problem
from proxy.control.admin.upstreams import Quota, Upstreams
from proxy.errors import ProxyRefused, Reason
from proxy.gemini import exhausted
from proxy.store.database import Database, open_database
from proxy.tenants import audit, disabled_upstreams
from proxy.upstreams.health import Health
from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import Request, Response
from proxy.upstreams.upstream import Upstream
from tests.billing.sample import NOON
from tests.servers import serving

pytestmark = pytest.mark.anyio

SECRET = "AIzaSySecretOfTheUpstream0123456789"
POOL = [
    Configured(name="spare", api_key=SECRET, priority=5, base_url="https://spare.example.com/gemini"),  # type: ignore[arg-type]
    Configured(name="first", api_key=SECRET, weight=3, models=("gemini-3*",), projects=("alice",)),  # type: ignore[arg-type]
]


class Busy:
    """A transport with two calls under way."""

    busy = 2

    async def send(self, request: Request, goes_up: Callable[[], object] = lambda: None) -> Response:
        raise NotImplementedError

    async def aclose(self) -> None: ...


@dataclass
class Stand:
    client: httpx2.AsyncClient
    database: Database
    health: Health
    upstreams: dict[str, Upstream]
    quota: dict[str, Quota]

    async def told(self) -> dict[str, dict[str, Any]]:
        answer = await self.client.get("v1/upstreams")
        assert answer.status_code == 200, answer.text
        assert SECRET not in answer.text
        return {one["name"]: one for one in answer.json()["upstreams"]}


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """`first` and `spare`, on a door without a token; it is NOON, and 100 seconds since the monotonic clock began."""
    database = open_database(Storage(data_dir=tmp_path))
    health = Health(lambda: 100.0, lambda: 0.5, lambda: 7200.0)
    made = [
        Upstream(one.name, one.base_url, one.auth, SECRET, Busy(), priority=one.priority, weight=one.weight)
        for one in POOL
    ]
    quotas: dict[str, Quota] = {}

    async def quota(name: str) -> Quota:
        if name not in quotas:
            raise ProxyRefused(Reason.LIMITER_UNAVAILABLE, "Redis gives no answer.")
        return quotas[name]

    async def refresh() -> None:
        health.disable(disabled_upstreams.list_disabled(database))

    clock = itertools.repeat(NOON)
    upstreams = Upstreams(
        database=database,
        configured=lambda: POOL,
        pool=lambda: Pool(made, health),
        disabled=lambda: disabled_upstreams.list_disabled(database),
        refresh=refresh,
        now_us=lambda: next(clock),
        quota=quota,
    )
    app = Starlette(routes=upstreams.routes, exception_handlers={Problem: routes._problem})
    async with serving(app) as url, httpx2.AsyncClient(base_url=url) as client:
        yield Stand(client, database, health, {one.name: one for one in made}, quotas)


async def test_an_upstream_that_is_fine_is_told_with_its_settings(stand: Stand) -> None:
    stand.quota["first"] = [("rpm", "gemini-3-pro", 57, 60), ("usd_per_10min", "*", 1_500_000_000, 10_000_000_000)]
    told = await stand.told()
    assert list(told) == ["first", "spare"], "those first that are asked first"
    assert told["first"] == {
        "name": "first",
        "base_url": "https://generativelanguage.googleapis.com",
        "priority": 0,
        "weight": 3,
        "models": ["gemini-3*"],
        "projects": ["alice"],
        "state": "ready",
        "disabled_at": None,
        "outages": [],
        "quota": [
            {"kind": "rpm", "model": "gemini-3-pro", "used": 57, "value": 60},
            {"kind": "usd_per_10min", "model": "*", "used": "1.5", "value": "10"},
        ],
        "last_error": None,
        "latency_ms": None,
        "in_flight": 2,
    }
    assert told["spare"]["quota"] is None, "it can't be asked for, and all else is told"


async def test_an_outage_says_why_until_when_and_what_google_said(stand: Stand) -> None:
    message = f"Quota exceeded\n for {SECRET}.\x1b[31m Please retry in 17s. " + "x" * 500
    error = {"error": {"message": message, "details": [{"retryDelay": "17s"}]}}
    stand.health.exhausted("first", "gemini-3-pro", exhausted.read(json.dumps(error).encode()))
    stand.health.overloaded("first", "gemini-3-flash")
    first = (await stand.told())["first"]
    overloaded, limited = first["outages"]
    assert first["state"] == "partly_out"
    assert overloaded == {
        "model": "gemini-3-flash",
        "why": "overloaded",
        "until": "2026-11-21T12:00:02.000000Z",
        "said": None,
    }
    assert (limited["model"], limited["why"], limited["until"]) == (
        "gemini-3-pro",
        "rate_limited",
        "2026-11-21T12:00:17.000000Z",
    )
    assert limited["said"].startswith("Quota exceeded for [redacted]. [31m Please retry in 17s. xx")
    assert len(limited["said"]) == 200
    stand.health.credential_refused("first")
    assert (await stand.told())["first"]["state"] == "out"


async def test_the_last_error_and_the_latency_are_told(stand: Stand) -> None:
    first, spare = (stand.upstreams[name].observed for name in ("first", "spare"))
    first.answered(0.4123)
    first.failed(98.5, "503 overloaded", json.dumps([{"error": {"message": f"{SECRET} is overloaded."}}]).encode())
    spare.failed(100.0, "unreachable: its name was not resolved")
    told = await stand.told()
    assert told["first"]["latency_ms"] == 412.3
    assert told["first"]["last_error"] == {
        "at": "2026-11-21T11:59:58.500000Z",
        "what": "503 overloaded: REDACTED is overloaded.",
    }
    assert told["spare"]["last_error"]["what"] == "unreachable: its name was not resolved"
    for body in (b"<html>", b'{"error": 3}', b"[]", b"\xff", b'{"error": {}}'):
        first.failed(98.5, "500", body)
        assert (await stand.told())["first"]["last_error"]["what"] == "500"


async def test_one_is_disabled_and_enabled_at_once_with_an_audit_event_each(stand: Stand) -> None:
    for _ in range(2):
        answer = await stand.client.post("v1/upstreams/first/disable")
        assert answer.status_code == 200
        first = answer.json()["upstreams"][0]
        assert (first["state"], first["disabled_at"]) == ("disabled", "2026-11-21T12:00:00.000000Z")
    answer = await stand.client.post("v1/upstreams/first/enable")
    assert [one["state"] for one in answer.json()["upstreams"]] == ["ready", "ready"]
    events = audit.list_events(stand.database, limit=9)
    assert [(event.actor, event.action, event.upstream) for event in events] == [
        ("admin", "upstream.enable", "first"),
        ("admin", "upstream.disable", "first"),
    ]


async def test_a_name_that_is_not_there_is_not_found_unless_it_is_left_over(stand: Stand) -> None:
    for what in ("disable", "enable"):
        answer = await stand.client.post(f"v1/upstreams/frist/{what}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/docs/admin-api#not-found")
        assert "those there are: spare, first. Did you mean 'first'?" in answer.json()["detail"]
    disabled_upstreams.disable(stand.database, "gone", NOON, actor="test")
    assert (await stand.client.post("v1/upstreams/gone/enable")).status_code == 200
    assert disabled_upstreams.list_disabled(stand.database) == {}
