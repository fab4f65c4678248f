"""The catalogue of models, asked at the gateway door: a key is told what it may use, and nothing else."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.billing.model_catalogue import ModelCatalogue
from proxy.billing.prices import PriceBook
from proxy.config.addresses import parse_network
from proxy.config.schema import Alias, Settings, Storage
from proxy.gateway import in_flight
from proxy.gateway.access import Access
from proxy.gateway.ended import Ended
from proxy.gateway.images.catalogue import PATH, Catalogue
from proxy.gateway.in_flight import InFlight
from proxy.store.database import Database, open_database
from proxy.telemetry.metrics import Metrics
from proxy.tenants import keys, projects
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from proxy.upstreams.pool import Pool
from tests.billing.sample import NOON
from tests.gateway.wire import Door, Response, door, parse
from tests.upstreams.steady import Steady, pool, upstream

pytestmark = pytest.mark.anyio

PRO = "gemini-3-pro-image"
ALIASES = (Alias(match="ours", use=PRO), Alias(match="unpriced", use="gemini-99"), Alias(match="old-*", use=PRO))


class Stand(NamedTuple):
    door: Door
    database: Database
    pool: Pool
    metrics: Metrics
    free_calls: InFlight

    def key(self, project: str, *models: str, **options: Any) -> str:
        if all(there.name != project for there in projects.list_projects(self.database)):
            projects.create(self.database, project, NOON, actor="test")
        given = {"models": models or ("*",), **options}
        return keys.create(self.database, project, "test", NOON, secrets.randbelow, actor="test", **given)[1]

    async def ask(self, key: str, rest: str = "", method: str = "GET", *headers: str) -> Response:
        lines = [f"{method} {PATH}{rest} HTTP/1.1", "host: x", "connection: close", *headers]
        lines += [f"authorization: Bearer {key}"] if key else []
        return parse(await self.door.ask("\r\n".join([*lines, "", ""]).encode()))

    async def listed(self, key: str) -> dict[str, Any]:
        answer = await self.ask(key)
        assert answer.status == 200, answer.body
        told = json.loads(answer.body)
        assert told["object"] == "list"
        return {model["id"]: model for model in told["data"]}

    async def refused(self, key: str, rest: str = "", method: str = "GET", *headers: str) -> tuple[int, str, str]:
        """Status, code and param of a refusal in OpenAI's shape."""
        answer = await self.ask(key, rest, method, *headers)
        error = json.loads(answer.body)["error"]
        assert error["details"][0]["domain"] == "weighbridge"
        assert answer.headers[b"x-weighbridge-refused"] == error["details"][0]["reason"].encode()
        return answer.status, error["code"], error["param"]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """Three upstreams: one for all, but for texts and for bob; one that has texts for bob; one, disabled, has all."""
    database, metrics, free = open_database(Storage(data_dir=tmp_path)), Metrics("0", []), in_flight.free_calls()
    members = (
        upstream("images", models=("*image*", "gemini-nano-banana-2.1", "gemini-99")),
        upstream("texts", models=("gemini-3.8-flash",), projects=("bob",)),
        upstream("spare"),
    )
    served = pool(Steady(), *members)
    served.health.disable(["spare"])
    settings, book = Settings(models=ALIASES), PriceBook.load()
    keyring = Keyring(database, now=lambda: NOON, monotonic=lambda: 0.0)
    catalogue = Catalogue(
        ModelCatalogue(book, settings.model_used, settings.alias_names),
        keyring=keyring,
        pool=served,
        needs_price=lambda tenant, model: tenant.project == "budgeted",
        free_calls=free,
        metrics=metrics,
        ended=Ended(metrics, Access(), lambda: 0.0),
        trusted_proxies=[parse_network("127.0.0.0/8")],
        now=lambda: NOON,
        monotonic=lambda: 0.0,
    )
    async with door(catalogue) as opened:
        yield Stand(opened, database, served, metrics, free)
    await keyring.close()


async def test_a_key_is_told_what_the_pool_serves_for_its_project(stand: Stand) -> None:
    alices = await stand.listed(stand.key("alice"))
    assert {PRO, "gemini-nano-banana-2.1", "ours", "gemini-2.5-flash-image", "unpriced"} <= alices.keys()
    assert all(model["x_weighbridge"]["images"] for name, model in alices.items() if name != "unpriced")
    bobs = await stand.listed(stand.key("bob"))
    assert bobs.keys() - alices.keys() == {"gemini-3.8-flash"}
    stand.pool.health.credential_refused("images")
    assert await stand.listed(stand.key("alice")) == alices, "one that is out comes back by itself"
    stand.pool.health.disable([])
    assert "gemini-4-argon" in await stand.listed(stand.key("alice"))


async def test_a_key_is_told_of_no_model_that_it_may_not_use(stand: Stand) -> None:
    """Whoever may use an alias or a successor may ask for it by the other name, as calls are judged."""
    assert (await stand.listed(stand.key("alice", "gemini-3.1-*"))).keys() == {
        "gemini-3.1-flash-image",
        "gemini-3.1-flash-lite-image",
        "gemini-3.1-flash-image-preview",
    }
    assert (await stand.listed(stand.key("alice", "ours"))).keys() == {"ours"}
    assert {"ours", PRO, f"{PRO}-preview"} <= (await stand.listed(stand.key("alice", PRO))).keys()
    assert await stand.listed(stand.key("alice", "veo-*")) == {}


async def test_one_model_is_what_the_list_has_of_it(stand: Stand) -> None:
    key = stand.key("alice")
    listed = await stand.listed(key)
    for rest in (f"/{PRO}", f"/models/{PRO}", f"/{PRO}/"):
        answer = await stand.ask(key, rest)
        assert (answer.status, json.loads(answer.body)) == (200, listed[PRO])
    answer = await stand.ask(key, "/old-1?x=y")
    assert json.loads(answer.body)["x_weighbridge"]["alias_of"] == PRO, "an alias by glob is in no list"
    answer = await stand.ask(key, "/imagen-4.0-generate-001")
    assert json.loads(answer.body)["x_weighbridge"]["retired"]["successor"] == "gemini-nano-banana-2.1"


@pytest.mark.parametrize(
    ("rest", "method", "refused"),
    [
        ("/gemini-77", "GET", (404, "model_not_found", "model")),
        ("/gemini-4-argon", "GET", (404, "model_not_found", "model")),
        ("/a/b", "GET", (404, "model_not_found", "model")),
        (f"/{'x' * 200}", "GET", (404, "model_not_found", "model")),
        ("/%00", "GET", (404, "model_not_found", "model")),
        ("", "POST", (404, "unknown_operation", None)),
        (f"/{PRO}", "DELETE", (404, "unknown_operation", None)),
        ("x", "GET", (404, "unknown_operation", None)),
    ],
)
async def test_what_is_not_there_is_refused_as_openai_refuses(
    stand: Stand, rest: str, method: str, refused: tuple[int, str, str]
) -> None:
    assert await stand.refused(stand.key("alice"), rest, method) == refused


async def test_keys_are_asked_for_as_for_any_call(stand: Stand) -> None:
    assert await stand.refused("") == (403, "invalid_api_key", None)
    assert await stand.refused("wb_" + "0" * 38) == (400, "invalid_api_key", None)
    assert await stand.refused(stand.key("alice", PRO), "/gemini-3.1-flash-image") == (403, "model_not_allowed", None)
    at_home = stand.key("alice", addresses=["192.0.2.0/24"])
    assert await stand.refused(at_home) == (403, "address_not_allowed", None)
    assert (await stand.ask(at_home, "", "GET", "x-forwarded-for: 192.0.2.7")).status == 200


async def test_who_needs_prices_is_told_of_no_model_without_one(stand: Stand) -> None:
    key = stand.key("budgeted")
    assert "unpriced" not in await stand.listed(key)
    assert await stand.refused(key, "/unpriced") == (404, "model_not_found", "model")
    assert (await stand.ask(stand.key("alice"), "/unpriced")).status == 200


async def test_a_key_may_ask_as_often_at_once_as_it_may_make_free_calls(stand: Stand) -> None:
    key = stand.key("alice")
    await stand.listed(key)
    [stored] = keys.list_keys(stand.database, "alice")
    tenant = Tenant("alice", stored.id, stored.name)
    for _ in range(in_flight.FREE_CALLS_AT_ONCE):
        stand.free_calls.begin(tenant)
    assert await stand.refused(key) == (429, "rate_limit_exceeded", None)
    stand.free_calls.end(tenant)
    assert await stand.listed(key)
    assert await stand.listed(key), "each place is given back"


async def test_questions_and_refusals_are_counted(stand: Stand) -> None:
    await stand.listed(stand.key("alice"))
    await stand.refused(stand.key("alice"), "/gemini-77")
    text = stand.metrics.exposition().decode()
    counted = 'weighbridge_requests_total{model="",operation="images.models",project="alice",status="%d"} 1.0'
    assert counted % 200 in text
    assert counted % 404 in text
    assert 'weighbridge_refusals_total{project="alice",reason="MODEL_NOT_FOUND"} 1.0' in text
