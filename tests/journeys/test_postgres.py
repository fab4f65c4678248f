"""Two nodes over one PostgreSQL: what one is told holds on both, also while the database is away and back."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import pytest

from proxy.tenants.key_format import mint
from tests.journeys.watching import TEXT, body, until
from tests.postgres_servers import PASSWORD, PostgresDatabase, PostgresServer
from tests.stand import Weighbridge

Nodes = tuple[Weighbridge, Weighbridge]


def node(folder: Path, upstream: str, database: PostgresDatabase) -> Weighbridge:
    folder.mkdir()
    storage = {"database_url": database.url, "database_password_env": "DATABASE_PASSWORD"}
    return Weighbridge(folder, upstream, {"storage": storage}, environment={"DATABASE_PASSWORD": PASSWORD})


@pytest.fixture
def nodes(upstream: str, own_postgres: PostgresServer, tmp_path: Path) -> Iterator[Nodes]:
    database = own_postgres.database()
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(closing(node(tmp_path / name, upstream, database))) for name in ("one", "other")
        )
        one.run("db", "upgrade")
        one.start()
        other.start()
        yield one, other


def status(stand: Weighbridge, key: str) -> int:
    headers = {"x-goog-api-key": key}
    url = f"{stand.base_url}{TEXT}generateContent"
    return httpx2.post(url, json=body("hi"), headers=headers, timeout=60).status_code


def made(stand: Weighbridge, name: str) -> tuple[str, str]:
    """A new key of alice's: its id, and itself."""
    told = json.loads(stand.run("key", "create", "alice", "--name", name, "--json"))
    return told["id"], told["key"]


def test_what_one_node_is_told_holds_on_both_and_an_outage_stops_neither(
    nodes: Nodes, own_postgres: PostgresServer
) -> None:
    one, other = nodes
    one.run("project", "create", "alice")
    key_id, key = made(one, "first")
    assert [status(stand, key) for stand in nodes] == [200, 200]

    own_postgres.stop()
    unknown = mint(secrets.randbelow)
    assert [status(stand, key) for stand in nodes] == [200, 200]
    until(lambda: all("database_failing" in stand.log() for stand in nodes), "both have said that it is away")
    assert [httpx2.get(f"{stand.base_url}/readyz").status_code for stand in nodes] == [200, 200]
    with pytest.raises(subprocess.CalledProcessError):
        one.run("key", "create", "alice")
    assert status(one, unknown) == 503
    own_postgres.start()

    _, second = made(other, "second")
    until(lambda: [status(stand, second) for stand in nodes] == [200, 200], "both know what was made since")
    until(lambda: all("database_back" in stand.log() for stand in nodes), "both have said that it is back")
    other.run("key", "revoke", key_id)
    until(lambda: [status(stand, key) for stand in nodes] == [400, 400], "it is refused on both")
    for stand in nodes:
        assert stand.stop() == 0
        assert PASSWORD not in stand.log()
    assert {record.key_name for record in [*one.records(), *other.records()]} == {"first", "second"}


def test_a_node_that_finds_no_schema_says_what_to_do_and_ends(
    upstream: str, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    with closing(node(tmp_path / "one", upstream, postgres)) as stand:
        stand.spawn()
        assert stand.wait() == 1
        assert "has no tables of Weighbridge yet: run `weighbridge db upgrade`" in stand.log()
        assert "Traceback" not in stand.log()
