"""A node that is cut off from Redis, or from PostgreSQL, and joined again. Packets vanish: nobody is told of it."""

from __future__ import annotations

import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

from proxy.billing.records import from_usd
from proxy.config.limits import parse_all
from proxy.emulator.app import create_app
from proxy.store.database import Database, open_database
from proxy.tenants import keys, projects
from tests.fleet.books import differences, shipped
from tests.fleet.fleet import scaled_out, started
from tests.fleet.node import Node
from tests.journeys.limited import ASK, limits_told
from tests.journeys.watching import DEADLINE_S, body, until
from tests.namespaces import Cable, Namespace
from tests.postgres_servers import PostgresDatabase, PostgresServer, running_postgres
from tests.redis_servers import RedisServer, running_redis
from tests.servers import running

LIMITS = {"alice": ["rpd=20"], "paid": ["usd=0.01,per=day"], "free": []}
ASKED = body("hello [[text-bytes=400]]") | {"generationConfig": {"maxOutputTokens": 150}}
HOLD = from_usd("0.0006")
"""Nano-dollars, a little more than a call of the budget's can cost."""
OPENS_WITHIN_S = 120
"""Budgets, where others that don't answer count as live for a minute."""


@dataclass
class Apart:
    """Two nodes, `far` in a namespace; a cable of its own leads from there to Redis, and one to PostgreSQL."""

    near: Node
    far: Node
    to_redis: Cable
    to_postgres: Cable
    redis: RedisServer
    database: PostgresDatabase
    upstream: str
    held: Mapping[str, str]

    def ask(self, node: Node, who: str) -> str:
        """The status of a call of that project's key, or the reason of its refusal."""
        return said(node, self.held[who])

    def passed(self, node: Node, who: str, count: int) -> Counter[str]:
        return Counter(self.ask(node, who) for _ in range(count))

    def books_agree(self) -> None:
        """All nodes' files are the upstream's account, and PostgreSQL has all of it."""
        account = httpx2.get(f"{self.upstream}/emulator/account", params={"limit": 10_000}).json()["entries"]
        records = [*self.near.records(), *self.far.records()]
        assert Counter(entry["id"] for entry in account) == Counter(record.response_id for record in records)
        assert {record.outcome for record in records} == {"ok"}
        shipped((self.near, self.far), self.database)
        assert list(differences((self.near, self.far), self.database)) == []

    def spent(self) -> int:
        records = [*self.near.records(), *self.far.records()]
        return sum(record.cost_usd or 0 for record in records if record.project == "paid")


def said(node: Node, key: str) -> str:
    answer = httpx2.post(node.base_url + ASK, json=ASKED, headers={"x-goog-api-key": key}, timeout=DEADLINE_S)
    return answer.headers.get("x-weighbridge-refused", str(answer.status_code))


def reached_from_afar(server: PostgresServer) -> None:
    with (server.folder / "data" / "pg_hba.conf").open("a") as file:
        file.write("host all all 198.18.0.0/15 scram-sha-256\n")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)


@pytest.fixture
def apart(far_machine: Namespace, tmp_path: Path) -> Iterator[Apart]:
    to_redis, to_postgres = far_machine.cable(), far_machine.cable()
    with ExitStack() as stack:
        bound = ("--bind", "127.0.0.1", to_redis.ours, "--protected-mode", "no")
        redis = stack.enter_context(running_redis(tmp_path / "redis", *bound))
        everywhere = {"listen_addresses": f"127.0.0.1,{to_postgres.ours}"}
        postgres = stack.enter_context(running_postgres(settings=everywhere))
        reached_from_afar(postgres)
        upstream = stack.enter_context(running(create_app(), far_machine.ours))
        database = postgres.database()
        near = Node(tmp_path / "near", upstream, scaled_out(redis.url, database), name="near")
        from_afar = scaled_out(f"redis://{to_redis.ours}:{redis.port}", replace(database, host=to_postgres.ours))
        far = Node(
            tmp_path / "far", upstream, from_afar, name="far", namespace=far_machine.name, host=far_machine.address
        )
        held = dict[str, str]()
        started([near, far], lambda filled: held.update(tenants(filled)), stack)
        yield Apart(near, far, to_redis, to_postgres, redis, database, upstream, held)


def tenants(database: Database) -> dict[str, str]:
    """A project for each of LIMITS, and the key of each."""
    now, held = time.time_ns() // 1000, {}
    for name, limits in LIMITS.items():
        projects.create(database, name, now, actor="test", limits=parse_all(limits))
        held[name] = keys.create(database, name, "test", now, secrets.randbelow, actor="test")[1]
    return held


def test_a_node_cut_off_from_redis_counts_alone_and_tells_it_when_it_is_joined_again(apart: Apart) -> None:
    """It serves what limits allow by itself, nobody who has a budget; the other node serves all. Each lets in what the
    limit allows and no more; afterwards all of it is counted, and budgets are open."""
    near, far = apart.near, apart.far
    for node in (near, far):
        assert apart.passed(node, "alice", 3) == {"200": 3}
        until(lambda node=node: apart.ask(node, "paid") == "200", "its budget is open", OPENS_WITHIN_S)  # type: ignore[misc]
    apart.to_redis.black_hole()
    assert apart.passed(far, "alice", 30) == {"200": 17, "RATE_LIMITED": 13}
    assert apart.passed(near, "alice", 30) == {"200": 14, "RATE_LIMITED": 16}
    assert [apart.ask(node, "paid") for node in (far, near)] == ["LIMITER_UNAVAILABLE", "200"]
    assert [apart.ask(node, "free") for node in (far, near)] == ["200", "200"]
    apart.to_redis.restore()
    until(lambda: far.told("limiter_back"), "Redis counts again")
    until(lambda: limits_told(near)["limits"][0]["used"] == 37, "what passed there meanwhile is counted")
    assert [apart.ask(node, "alice") for node in (far, near)] == ["RATE_LIMITED", "RATE_LIMITED"]
    until(lambda: apart.ask(far, "paid") == "200", "its budget is open again", OPENS_WITHIN_S)
    apart.books_agree()


def test_a_node_cut_off_from_postgres_serves_known_keys_and_budgets_that_redis_forgot(apart: Apart) -> None:
    """Its own ledger files say what it has spent, and the other node's what that has: so budgets are open again on
    both, and never over. A key that is new is known to it when it is joined again, and its records are shipped."""
    near, far = apart.near, apart.far
    for node in (near, far):
        until(lambda node=node: apart.ask(node, "paid") == "200", "its budget is open", OPENS_WITHIN_S)  # type: ignore[misc]
    apart.to_postgres.black_hole()
    with apart.redis.client as client:
        client.flushall()
    database, now = open_database(near.storage), time.time_ns() // 1000
    new = keys.create(database, "free", "new", now, secrets.randbelow, actor="test")[1]
    assert [said(node, new) for node in (far, near)] == ["STORE_UNAVAILABLE", "200"]
    assert apart.passed(far, "free", 5) == {"200": 5}
    for node in (far, near):
        until(lambda node=node: apart.ask(node, "paid") == "200", "its budget is open again", OPENS_WITHIN_S)  # type: ignore[misc]
    while "200" in (apart.ask(far, "paid"), apart.ask(near, "paid")):
        assert apart.spent() <= from_usd("0.01")
    assert {apart.ask(node, "paid") for node in (far, near)} == {"BUDGET_EXCEEDED"}
    assert from_usd("0.01") - HOLD <= apart.spent() <= from_usd("0.01")
    apart.to_postgres.restore()
    until(lambda: said(far, new) == "200", "the new key is known there, too", OPENS_WITHIN_S)
    apart.books_agree()
