"""Two nodes over one PostgreSQL have one bill: whichever is asked, by commands or by a key, tells all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from proxy.billing.records import to_usd
from tests.journeys.test_account import asked, called
from tests.journeys.test_postgres import node
from tests.journeys.watching import until
from tests.postgres_servers import PostgresServer
from tests.stand import Weighbridge


@pytest.fixture
def nodes(
    upstream: str, postgres_server: PostgresServer, postgres_schema: str, tmp_path: Path
) -> Iterator[tuple[Weighbridge, Weighbridge]]:
    database = postgres_server.database(postgres_schema)
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(closing(node(tmp_path / name, upstream, database))) for name in ("one", "other")
        )
        one.start()
        other.start()
        yield one, other


def total(stand: Weighbridge, key: str) -> tuple[int, str]:
    """Calls and cost, as a key is told them."""
    told = asked(stand, key, "usage?by=month")["total"]
    return told["calls"], told["cost_usd"]


def test_calls_of_both_nodes_are_on_one_bill_to_the_nano_dollar(nodes: tuple[Weighbridge, Weighbridge]) -> None:
    one, other = nodes
    key = one.key("alice")
    here, there = called(one, key), called(other, key)
    assert asked(one, key, f"calls/{here}")["request_id"] == here  # at once
    records = one.records() + other.records()
    cost = sum(record.cost_usd or 0 for record in records)
    for stand in nodes:
        until(lambda at=stand: total(at, key) == (2, to_usd(cost)), "both calls are on the bill")  # type: ignore[misc]
        assert {asked(stand, key, f"calls/{request_id}")["request_id"] for request_id in (here, there)} == {here, there}

    [of] = [record.record_id for record in one.records()]
    made = json.loads(other.run("usage", "adjust", "alice", "-0.000000007", "--why", "torn", "--of", of, "--json"))
    until(lambda: total(one, key) == (2, to_usd(cost - 7)), "the other node's adjustment is on the bill")
    assert len(asked(other, key, f"calls/{here}")["records"]) == 2
    told: dict[str, Any] = json.loads(other.run("usage", "report", "--by", "project", "--json"))
    assert (told["total"]["cost_usd"], told["unshipped_records"]) == (to_usd(cost - 7), 0)
    exported = [json.loads(line)["record_id"] for line in one.run("usage", "export").splitlines()]
    assert sorted(exported) == sorted([*(record.record_id for record in records), made["record_id"]])
