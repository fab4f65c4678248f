"""What is used of each limit, as the admin API tells it: of a project and its keys, without taking any."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from proxy.config.limits import parse
from proxy.control.admin.limits import configured
from proxy.errors import ProxyRefused, Reason
from proxy.limits.interface import Hold
from proxy.tenants import keys, projects
from tests.billing.sample import NOON
from tests.control.admin.conftest import Admin

pytestmark = pytest.mark.anyio

DAY = "2026-11-21"


def limited(admin: Admin, project: str, *limits: str) -> None:
    projects.update(admin.database, project, NOON, actor="test", limits=limits)


def key(admin: Admin, project: str, name: str, *limits: str, **options: Any) -> str:
    """The id of a new key with limits of its own."""
    own = tuple(parse(limit) for limit in limits)
    return keys.create(admin.database, project, name, NOON, secrets.randbelow, actor="test", limits=own, **options)[
        0
    ].id


async def shown(admin: Admin, project: str = "acme") -> dict[str, Any]:
    answer = await admin.client.get(f"projects/{project}/limits")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_each_limit_is_told_with_what_is_used_of_it_now(admin: Admin) -> None:
    limited(admin, "acme", "rpm=60", "rpd=500", "tpm=1000,model=*-flash,shadow", "concurrency=5")
    laptop = key(admin, "acme", "laptop", "ipm=5,model=*-image*")
    held = [Hold(counter, 3) for counter in await counters(admin) if counter.kind != "concurrency"]
    await admin.limiter.reserve("a", DAY, held)
    told = await shown(admin)

    assert (told["project"], told["day"], told["day_ends_at"]) == ("acme", DAY, "2026-11-22T08:00:00.000000Z")
    everything = {limit["kind"]: limit for limit in told["limits"]}
    assert everything["rpm"] == {
        "kind": "rpm",
        "model": "*",
        "scope": "project",
        "key_id": None,
        "key_name": None,
        "shadow": False,
        "value": 60,
        "used": 3,
        "window_seconds": 60,
        "resets_at": None,
    }
    assert everything["rpd"]["resets_at"] == told["day_ends_at"]
    assert everything["rpd"]["window_seconds"] is None
    assert (everything["tpm"]["model"], everything["tpm"]["shadow"], everything["tpm"]["used"]) == ("*-flash", True, 3)
    assert everything["concurrency"]["used"] == 0
    of_key = everything["ipm"]
    assert (of_key["scope"], of_key["key_id"], of_key["key_name"], of_key["used"]) == ("key", laptop, "laptop", 3)


async def counters(admin: Admin) -> tuple[Any, ...]:
    return configured(admin.database, "acme", NOON).counters


async def test_looking_takes_nothing(admin: Admin) -> None:
    limited(admin, "acme", "rpm=1", "rpd=1")
    for _ in range(3):
        told = await shown(admin)
    assert [limit["used"] for limit in told["limits"]] == [0, 0]


async def test_a_project_without_limits_has_none_and_an_unknown_one_is_not_found(admin: Admin) -> None:
    limited(admin, "bobs", "rpm=7")

    assert (await shown(admin))["limits"] == []
    for unknown in ("acne", "%2e%2e", "a%20b"):
        answer = await admin.client.get(f"projects/{unknown}/limits")
        assert (answer.status_code, answer.json()["type"]) == (404, "/docs/admin-api#not-found")
    answer = await admin.client.get("projects/acne/limits")
    assert answer.json()["detail"] == "there is no project 'acne'; did you mean 'acme'?"


async def test_keys_that_are_not_served_are_left_out(admin: Admin) -> None:
    revoked = key(admin, "acme", "revoked", "rpm=1")
    keys.revoke(admin.database, revoked, NOON, actor="test")
    key(admin, "acme", "expired", "rpm=2", expires_at=NOON + 1)
    key(admin, "acme", "unlimited")
    key(admin, "acme", "served", "rpm=3", expires_at=NOON + 10**6)
    await shown(admin)  # the clock is a microsecond further

    assert [(limit["key_name"], limit["value"]) for limit in (await shown(admin))["limits"]] == [("served", 3)]


async def test_where_the_limiter_cannot_be_asked_it_is_said(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> list[int]:
        raise ProxyRefused(Reason.LIMITER_UNAVAILABLE, "Redis gives no answer.")

    limited(admin, "acme", "rpm=1")
    monkeypatch.setattr(admin.limiter, "used", away)
    answer = await admin.client.get("projects/acme/limits")

    assert (answer.status_code, answer.json()["type"]) == (503, "/docs/admin-api#unavailable")
    assert answer.json()["detail"] == "Redis gives no answer."
