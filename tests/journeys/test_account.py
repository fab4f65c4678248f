"""A key asks the running server about its own project, while calls go on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from proxy.billing.records import to_usd
from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from tests.journeys.watching import TEXT, body
from tests.stand import Weighbridge, weighbridge

ASK = TEXT + "generateContent"


@pytest.fixture(scope="module")
def stand(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("account"), upstream) as running:
        yield running


def asked(stand: Weighbridge, key: str, path: str) -> Any:
    answer = httpx2.get(f"{stand.base_url}/weighbridge/v1/{path}", headers={"x-goog-api-key": key})
    return answer.json() if answer.is_success else answer.headers["x-weighbridge-refused"]


def called(stand: Weighbridge, key: str) -> str:
    """Makes a call; its request id."""
    answer = httpx2.post(stand.base_url + ASK, headers={"x-goog-api-key": key}, json=body("hi"))
    return str(answer.headers["x-weighbridge-request-id"])


def test_a_caller_learns_what_its_calls_cost_and_what_is_left(stand: Weighbridge) -> None:
    """As soon as a call has been answered, and nobody else's."""
    now = time.time_ns() // 1000
    database = open_database(stand.storage)
    projects.create(database, "carol", now, actor="test", limits=parse_all(["rpm=60"]))
    limits = parse_all(["rpd=9"])
    _, carol = keys.create(database, "carol", "mine", now, secrets.randbelow, actor="test", limits=limits)
    dave = stand.key("dave")
    made = [
        httpx2.post(stand.base_url + ASK, headers={"x-goog-api-key": key}, json=body("hi")) for key in (carol, dave)
    ]
    mine, theirs = (answer.headers["x-weighbridge-request-id"] for answer in made)
    [record] = [record for record in stand.records() if record.request_id == mine]
    assert record.cost_usd

    told = asked(stand, carol, f"calls/{mine}")
    assert told["cost_usd"] == to_usd(record.cost_usd)
    assert [one["record_id"] for one in told["records"]] == [record.record_id]
    assert asked(stand, carol, f"calls/{theirs}") == "CALL_NOT_FOUND"

    usage = asked(stand, carol, "usage")
    assert (usage["total"]["calls"], usage["total"]["cost_usd"]) == (1, told["cost_usd"])
    assert [(row["day"], row["model"]) for row in usage["rows"]] == [(record.period, record.model)]

    in_use = asked(stand, carol, "limits")
    assert [(one["kind"], one["scope"], one["value"], one["used"]) for one in in_use["limits"]] == [
        ("rpm", "project", 60, 1),
        ("rpd", "key", 9, 1),
    ]
    assert asked(stand, dave, "limits")["limits"] == []


def test_a_revoked_key_learns_nothing(stand: Weighbridge) -> None:
    key = stand.key("erin")
    assert asked(stand, key, "usage")["total"]["calls"] == 0
    database = open_database(stand.storage)
    [made] = keys.list_keys(database, "erin")
    keys.revoke(database, made.id, time.time_ns() // 1000, actor="test")
    give_up = time.monotonic() + 5
    while (said := asked(stand, key, "usage")) != "API_KEY_INVALID":
        assert time.monotonic() < give_up, said


def test_a_page_of_another_origin_may_ask_as_it_may_make_calls(stand: Weighbridge) -> None:
    url = f"{stand.base_url}/weighbridge/v1/usage"
    preflight = httpx2.options(url, headers={"origin": "https://app.example", "access-control-request-method": "GET"})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "*")
