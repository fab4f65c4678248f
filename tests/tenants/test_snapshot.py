"""What is read of keys and projects: each key's policy, equal ones shared; a bad row harms no other key."""

from __future__ import annotations

import secrets
from ipaddress import ip_network
from pathlib import Path

import pytest
import structlog

from proxy.config.limits import parse_all
from proxy.config.schema import Storage
from proxy.store.database import Database, open_database
from proxy.tenants import keys, projects
from proxy.tenants.key_format import digest
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import UNRESTRICTED, Policy, read_limits
from proxy.tenants.snapshot import NOTHING, read_snapshot

LIMITS, OWN = parse_all(["rpm=60"]), parse_all(["rpm=5"])


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = open_database(Storage(data_dir=tmp_path))
    projects.create(database, "alice", 1, actor="test", limits=LIMITS, models=["gemini-*"])
    projects.create(database, "bob", 1, actor="test")
    return database


def tenant_of(database: Database, secret: str) -> Tenant:
    return read_snapshot(database, NOTHING).tenants[digest(secret)]


def test_a_tenant_bears_what_its_key_and_its_project_allow(database: Database) -> None:
    key, secret = keys.create(
        database,
        "alice",
        "notebook",
        5,
        secrets.randbelow,
        actor="test",
        expires_at=9,
        models=["*-image"],
        addresses=["10.0.0.0/8"],
        limits=OWN,
    )
    policy = Policy(("gemini-*",), ("*-image",), (ip_network("10.0.0.0/8"),), 9, LIMITS, OWN)
    assert tenant_of(database, secret) == Tenant("alice", key.id, "notebook", policy)
    _, secret = keys.create(database, "bob", "notebook", 5, secrets.randbelow, actor="test")
    assert tenant_of(database, secret).policy == UNRESTRICTED


def test_keys_that_may_do_the_same_share_what_says_so(database: Database) -> None:
    """100,000 keys must not take 100,000 policies, nor as many names of their project."""
    for project in ("alice", "bob"):
        for _ in range(2):
            keys.create(database, project, "default", 5, secrets.randbelow, actor="test")
    one, two, three, four = sorted(read_snapshot(database, NOTHING).tenants.values())
    assert one.policy is two.policy
    assert three.policy is four.policy
    assert one.project is two.project
    assert one.key_name is four.key_name


def test_keys_that_differ_in_their_expiry_alone_share_the_rest(database: Database) -> None:
    """Each key made for thirty days expires at a microsecond of its own."""
    for expires_at in (10, 11):
        keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test", expires_at=expires_at, limits=OWN)
    one, two = (tenant.policy for tenant in read_snapshot(database, NOTHING).tenants.values())
    assert {one.expires_at, two.expires_at} == {10, 11}
    assert one.project_limits is two.project_limits
    assert one.key_limits is two.key_limits
    assert one.models is two.models


def test_what_has_not_changed_is_not_parsed_again_when_a_key_is_made(database: Database) -> None:
    """All keys are read anew at each change: with 100,000 of them that would hold up the change, and the calls."""
    for number in range(20):
        limits = parse_all([f"rpm={number}"])
        keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test", expires_at=10 + number, limits=limits)
    read_snapshot(database, NOTHING)
    parsed = read_limits.cache_info().misses
    keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test", limits=parse_all(["tpm=987654321"]))
    assert len(read_snapshot(database, NOTHING).tenants) == 21
    assert read_limits.cache_info().misses == parsed + 1


def test_a_change_of_a_project_reaches_its_keys(database: Database) -> None:
    _, secret = keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test")
    projects.update(database, "alice", 6, actor="test", limits=["rpm=none"], models=["*"])
    assert tenant_of(database, secret).policy == UNRESTRICTED


def test_a_policy_that_cannot_be_read_refuses_its_keys_and_no_others(database: Database) -> None:
    _, bad = keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test")
    _, also_bad = keys.create(database, "alice", "b", 5, secrets.randbelow, actor="test")
    _, good = keys.create(database, "bob", "c", 5, secrets.randbelow, actor="test")
    with database.writing() as connection:
        connection.exec_driver_sql("""UPDATE projects SET limits = '["from=elsewhere"]' WHERE name = 'alice'""")
    with structlog.testing.capture_logs() as logs:
        tenants = read_snapshot(database, NOTHING).tenants
    assert digest(good) in tenants
    assert digest(bad) not in tenants
    assert digest(also_bad) not in tenants
    assert [entry["event"] for entry in logs] == ["policy_unreadable"]


def test_what_is_held_is_kept_while_nothing_has_changed(database: Database) -> None:
    held = read_snapshot(database, NOTHING)
    assert read_snapshot(database, held) is held
    keys.create(database, "bob", "a", 5, secrets.randbelow, actor="test")
    assert read_snapshot(database, held) is not held
