"""What a key may do, held against it by the running server: models, addresses, expiry, limits; and its rotation."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from proxy.store.database import Database, open_database
from proxy.tenants import keys, projects
from proxy.tenants.keys import Key
from tests.journeys.watching import PICTURE, TEXT, body, until
from tests.stand import Weighbridge, weighbridge

ASK = TEXT + "generateContent"
S = 1_000_000


def now() -> int:
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def stand(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    """Behind a proxy on this machine, whose word for a client's address counts."""
    settings = {"server": {"trusted_proxies": ["127.0.0.0/8"]}}
    with weighbridge(tmp_path_factory.mktemp("policies"), upstream, settings) as running:
        yield running


@pytest.fixture
def database(stand: Weighbridge) -> Database:
    return open_database(stand.storage)


def make(database: Database, project: str, **options: Any) -> tuple[Key, str]:
    if all(there.name != project for there in projects.list_projects(database)):
        projects.create(database, project, now(), actor="test")
    return keys.create(database, project, "test", now(), secrets.randbelow, actor="test", **options)


def reason(stand: Weighbridge, key: str, path: str = ASK, **headers: str) -> str:
    """Why a call is refused; "" where it isn't."""
    sent = {"x-goog-api-key": key} | {name.replace("_", "-"): value for name, value in headers.items()}
    method = "GET" if path.endswith("models") else "POST"
    answer = httpx2.request(method, stand.base_url + path, headers=sent, json=None if method == "GET" else body("hi"))
    return str(answer.headers.get("x-weighbridge-refused", ""))


def metrics(stand: Weighbridge) -> str:
    return httpx2.get(f"{stand.admin_url}/metrics").text


def test_a_key_uses_the_models_that_both_it_and_its_project_may(stand: Weighbridge, database: Database) -> None:
    """By the path's model, also for free operations on it; lists of models are for all."""
    projects.create(database, "painters", now(), actor="test", models=["*-image*", "gemini-3.8-*"])
    _, painter = make(database, "painters")
    _, writer = make(database, "painters", models=["gemini-3*"])
    assert [reason(stand, painter), reason(stand, painter, PICTURE)] == ["", ""]
    assert reason(stand, painter, "/v1beta/models/gemini-embedding-2:embedContent") == "MODEL_NOT_ALLOWED"
    assert reason(stand, painter, "/v1beta/models/gemini-embedding-2:countTokens") == "MODEL_NOT_ALLOWED"
    assert reason(stand, writer) == ""
    assert reason(stand, writer, "/v1beta/models/gemini-2.5-flash-image:generateContent") == "MODEL_NOT_ALLOWED"
    assert reason(stand, writer, "/v1beta/models") == ""


@pytest.mark.parametrize(
    ("forwarded_for", "refused"),
    [
        ("10.1.2.3", ""),
        ("10.1.2.3:5678", ""),
        ("::ffff:10.1.2.3", ""),
        ("10.1.2.3, 127.0.0.9", ""),
        ("192.0.2.1", "ADDRESS_NOT_ALLOWED"),
        ("10.1.2.3, 192.0.2.1", "ADDRESS_NOT_ALLOWED"),
        ("10.1.2.3, nonsense", "ADDRESS_NOT_ALLOWED"),
        ("", "ADDRESS_NOT_ALLOWED"),
    ],
)
def test_a_key_is_used_from_its_addresses(
    forwarded_for: str, refused: str, stand: Weighbridge, database: Database
) -> None:
    """As the last proxy that is trusted tells them; what a client writes before that proves nothing."""
    _, key = make(database, "somewhere", addresses=["10.0.0.0/8"])
    assert reason(stand, key, x_forwarded_for=forwarded_for) == refused


def test_without_a_proxy_that_is_trusted_nobodys_word_counts(upstream: str, tmp_path_factory: Any) -> None:
    """The address is the connection's own, whatever X-Forwarded-For says."""
    with weighbridge(tmp_path_factory.mktemp("untrusting"), upstream) as stand:
        database = open_database(stand.storage)
        _, here = make(database, "somewhere", addresses=["127.0.0.1"])
        _, elsewhere = make(database, "somewhere", addresses=["10.0.0.0/8"])
        assert reason(stand, here, x_forwarded_for="10.1.2.3") == ""
        assert reason(stand, elsewhere, x_forwarded_for="10.1.2.3") == "ADDRESS_NOT_ALLOWED"


def test_a_key_expires_by_itself(stand: Weighbridge, database: Database) -> None:
    """Nothing is written when it does; from then on it is as one that was never made, but for the operator."""
    _, key = make(database, "brief", expires_at=now() + 2 * S)
    assert reason(stand, key) == ""
    until(lambda: reason(stand, key) == "API_KEY_INVALID", "the key has expired")
    assert 'weighbridge_refusals_total{project="brief",reason="API_KEY_INVALID"}' in metrics(stand)


def test_a_rotated_key_is_served_for_the_overlap(stand: Weighbridge, database: Database) -> None:
    """Both are, until the old one ends. The new one has the options of the old."""
    old, key = make(database, "rotating", models=["gemini-3.8-*"])
    _, _, new = keys.rotate(database, old.id, now(), secrets.randbelow, actor="test", overlap=3 * S)
    assert [reason(stand, one) for one in (key, new)] == ["", ""]
    assert reason(stand, new, PICTURE) == "MODEL_NOT_ALLOWED"
    until(lambda: reason(stand, key) == "API_KEY_INVALID", "the old key has ended")
    assert reason(stand, new) == ""


def test_a_limit_that_is_set_holds_within_two_seconds_and_one_that_is_taken_away_no_longer(
    stand: Weighbridge, database: Database
) -> None:
    """Without a restart, and without a call that fails for it."""
    _, key = make(database, "limited")
    assert reason(stand, key) == ""
    projects.update(database, "limited", now(), actor="test", limits=["rpd=0"])
    until(lambda: reason(stand, key) == "RATE_LIMITED", "the limit holds")
    projects.update(database, "limited", now(), actor="test", limits=["rpd=none"])
    until(lambda: reason(stand, key) == "", "the limit is gone")


def test_a_project_that_is_enabled_again_is_served_again(stand: Weighbridge, database: Database) -> None:
    _, key = make(database, "paused")
    projects.disable(database, "paused", now(), actor="test")
    until(lambda: reason(stand, key) == "PROJECT_DISABLED", "the project is disabled")
    assert 'weighbridge_refusals_total{project="paused",reason="PROJECT_DISABLED"}' in metrics(stand)
    projects.enable(database, "paused", now(), actor="test")
    until(lambda: reason(stand, key) == "", "the project is served")
