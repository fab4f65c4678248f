"""Adjustments by the admin API: once each, through the server's own writer, and never in the place of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.billing import reports
from proxy.billing.ledger_reading import ledger_files
from proxy.store.database import Database
from proxy.tenants import audit, projects
from tests.billing.sample import NOON, lease, sample
from tests.billing.shipped import ship_all
from tests.billing.test_claims import grow_old
from tests.control.admin.conftest import Admin, admin_of

pytestmark = pytest.mark.anyio


async def adjust(admin: Admin, **asked: Any) -> httpx2.Response:
    body = {"project": "acme", "cost_usd": "-1.50", "why": "the picture was torn"} | asked
    return await admin.client.post("adjustments", json=body)


async def test_an_adjustment_is_a_record_on_the_bill_and_no_call(admin: Admin) -> None:
    await admin.ledger.write(sample("a"))
    answer = await adjust(admin)

    assert answer.status_code == 201
    told = answer.json()
    assert told["kind"] == told["operation"] == "adjustment"
    assert (told["record_id"], told["cost_usd"], told["hint"]) == ("adj_1", "-1.5", "the picture was torn")
    assert (told["started_at"], told["period"]) == ("2026-11-21T12:00:00.000000Z", "2026-11-21")
    [row] = reports.report(ledger_files(admin.data_dir), ["project"])
    assert (row.calls, row.cost_usd, row.adjustments_cost_usd) == (1, 33_602_100 - 1_500_000_000, -1_500_000_000)


async def test_a_correction_is_of_the_key_and_model_of_what_it_corrects(admin: Admin) -> None:
    await admin.ledger.write(sample("a"))
    told = (await adjust(admin, of="a", cost_usd="-0.0336021")).json()

    assert (told["caused_by"], told["request_id"], told["key_id"], told["model"]) == (
        "a",
        "request-a",
        "k1",
        "gemini-2.5-flash-image",
    )
    [row] = reports.report(ledger_files(admin.data_dir), ["key", "model"])
    assert (row.calls, row.images, row.cost_usd) == (1, 1, 0)


async def test_the_same_id_again_changes_nothing_and_is_answered_as_before(admin: Admin) -> None:
    first = await adjust(admin, record_id="adj_invoice-7")
    again = await adjust(admin, record_id="adj_invoice-7", cost_usd="-1.5")

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert len(admin.records()) == 1


async def test_of_many_at_once_with_one_id_one_counts(admin: Admin) -> None:
    answers = await asyncio.gather(*(adjust(admin, record_id="adj_x") for _ in range(20)))

    assert {answer.status_code for answer in answers} <= {200, 201}
    assert [record.cost_usd for record in admin.records()] == [-1_500_000_000]


async def test_an_id_that_means_something_else_is_a_conflict(admin: Admin) -> None:
    await admin.ledger.write(sample("a"))
    await adjust(admin, record_id="adj_x")
    changes: list[dict[str, str]] = [{"cost_usd": "-1.51"}, {"why": "another"}, {"project": "bobs"}, {"of": "a"}]
    for change in changes:
        answer = await adjust(admin, record_id="adj_x", **change)
        assert (answer.status_code, answer.json()["type"]) == (409, "/docs/admin-api#conflict"), change
    assert len(admin.records()) == 2


async def test_nobody_can_take_the_place_of_a_call_that_is_under_way(admin: Admin) -> None:
    """A record of its id would end its lease, and its own record would be taken for a second one."""
    await admin.ledger.open_lease(lease("01a1ff00-under-way"))
    answer = await adjust(admin, record_id="01a1ff00-under-way")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "record_id")
    await admin.ledger.write(sample("01a1ff00-under-way"))
    assert [record.kind for record in admin.records()] == ["call"]


FAULTS: list[tuple[dict[str, str], str, str]] = [
    ({"project": "acne"}, "project", "did you mean 'acme'?"),
    ({"project": ""}, "project", "there is no project"),
    ({"of": "nothing"}, "of", "there is no record 'nothing'"),
    ({"of": "b"}, "of", "of another project, 'zeta'"),
    ({"why": "  "}, "why", "say why"),
    ({"why": "two\nlines"}, "why", "one line"),
    ({"cost_usd": "0.00"}, "cost_usd", "not of 0"),
    ({"cost_usd": "1e3"}, "cost_usd", "plain decimal number"),
]


async def test_what_cannot_be_done_is_said_of_its_field(admin: Admin) -> None:
    await admin.ledger.write(sample("b", project="zeta"))
    for change, field, said in FAULTS:
        answer = await adjust(admin, **change)
        assert answer.status_code == 422, change
        [fault] = answer.json()["errors"]
        assert fault["field"] == field
        assert said in fault["message"]
    assert [record.record_id for record in admin.records()] == ["b"]


async def test_each_leaves_one_audit_event_before_it_is_made(admin: Admin) -> None:
    await admin.ledger.write(sample("a"))
    await adjust(admin, record_id="adj_x", of="a")
    await adjust(admin, record_id="adj_x", of="a")
    await adjust(admin, cost_usd="0")

    event, created = audit.list_events(admin.database, limit=9, project="acme")
    assert (event.action, event.actor, event.key_id, event.at) == ("adjustment.create", "admin", "k1", NOON)
    made = {"record_id": "adj_x", "cost_usd": "-1.5", "why": "the picture was torn", "of": "a"}
    assert event.changes == {name: {"before": None, "after": value} for name, value in made.items()}
    assert created.action == "project.create"


async def test_without_its_audit_event_none_is_made(admin: Admin) -> None:
    with admin.database.noting() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    assert (await adjust(admin)).status_code == 503
    assert admin.records() == []


async def test_where_the_ledger_cannot_be_written_nothing_is_promised(admin: Admin) -> None:
    await admin.ledger.close()
    answer = await adjust(admin)

    assert (answer.status_code, answer.json()["type"]) == (503, "/docs/admin-api#unavailable")
    assert admin.records() == []
    assert {event.action for event in audit.list_events(admin.database, limit=9)} == {"project.create"}


@pytest.fixture
async def nodes(tmp_path: Path, postgres_database: Database) -> AsyncIterator[tuple[Admin, Admin]]:
    """Two nodes that share a PostgreSQL, each with a ledger file of its own. Nothing is shipped by itself."""
    projects.create(postgres_database, "acme", NOON, actor="test")
    one, other = (admin_of(tmp_path / name, postgres_database, f"{name}-") for name in ("one", "other"))
    async with one as first, other as second:
        yield first, second


def ship(node: Admin) -> None:
    [path] = ledger_files(node.data_dir)
    ship_all(node.database, path)


async def test_a_text_that_postgresql_cannot_hold_is_a_mistake_of_the_body(nodes: tuple[Admin, Admin]) -> None:
    """Not an outage of PostgreSQL, after which the same would be tried again."""
    node, _ = nodes
    answers = {
        "of": await adjust(node, of="a\0b"),
        "project": await adjust(node, project="a\0b"),
        "differences.0.of": await node.client.post(
            "adjustments/rerate", json={"differences": [{"of": "a\0b", "cost_usd": "1"}]}
        ),
    }
    for field, answer in answers.items():
        assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])
    assert (await node.client.get("projects/a%00b/limits")).status_code == 404


async def test_an_id_that_two_nodes_are_given_counts_once(nodes: tuple[Admin, Admin]) -> None:
    """The second is told to come again while the first's record isn't shipped, and then that it stands."""
    one, other = nodes
    made = await adjust(one, record_id="adj_invoice-7")
    under_way = await adjust(other, record_id="adj_invoice-7")
    assert (made.status_code, under_way.status_code) == (201, 503)
    assert "try again in a minute" in under_way.json()["detail"]
    assert (await adjust(one, record_id="adj_invoice-7")).status_code == 200
    assert (await adjust(other, record_id="adj_invoice-7", cost_usd="2")).status_code == 409
    ship(one)
    stands = await adjust(other, record_id="adj_invoice-7")
    assert (stands.status_code, stands.json()) == (200, made.json())
    assert (await adjust(other, record_id="adj_invoice-7", cost_usd="2")).status_code == 409
    assert (len(one.records()), len(other.records())) == (1, 0)
    events = [event.action for event in audit.list_events(one.database, limit=9, project="acme")]
    assert events == ["adjustment.create", "project.create"]


async def test_a_node_that_died_with_an_unshipped_adjustment_does_not_stop_it_and_does_not_double_it(
    nodes: tuple[Admin, Admin],
) -> None:
    one, other = nodes
    await adjust(one, record_id="adj_x")
    grow_old(one.database)
    again = await adjust(other, record_id="adj_x")
    assert again.status_code == 201
    ship(other)
    ship(one)  # its disk comes back
    [row] = reports.report([one.database], ["project"])
    assert row.cost_usd == -1_500_000_000


async def test_a_call_of_another_node_can_be_corrected_when_it_is_shipped(nodes: tuple[Admin, Admin]) -> None:
    one, other = nodes
    await one.ledger.write(sample("a"))
    early = await adjust(other, of="a")
    assert early.status_code == 422
    assert "another node has just written gets here in a moment: try again" in early.json()["errors"][0]["message"]
    assert (await adjust(one, of="a")).status_code == 201
    ship(one)
    assert (await adjust(other, of="a")).json()["key_id"] == "k1"
    ship(other)
    [row] = reports.report([one.database], [])
    assert (row.calls, row.cost_usd) == (1, 33_602_100 - 3_000_000_000)


async def test_ids_of_the_nodes_own_making_wait_for_nobody(nodes: tuple[Admin, Admin]) -> None:
    answers = await asyncio.gather(*(adjust(node) for node in nodes for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    for node in nodes:
        ship(node)
    assert len(list(reports.export([nodes[0].database]))) == 10
