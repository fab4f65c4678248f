"""Rerating by the admin API: what was shown is what is written, once, by the server's own writer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.billing import reports
from proxy.config.limits import parse
from proxy.limits.interface import Taken, counters
from proxy.store.database import Database
from proxy.tenants import audit
from tests.billing.sample import sample
from tests.control.admin.conftest import Admin, admin_of
from tests.control.admin.test_adjustments import ship

pytestmark = pytest.mark.anyio
PAID = 33_602_100 + 1_000_000
"""A millidollar more than the book's price."""


async def rerate(admin: Admin, *differences: tuple[str, str]) -> httpx2.Response:
    asked = [{"of": record_id, "cost_usd": usd} for record_id, usd in differences]
    return await admin.client.post("adjustments/rerate", json={"differences": asked})


async def test_differences_become_adjustments_and_an_audit_event_for_each_project(admin: Admin) -> None:
    for record_id, project in (("a", "acme"), ("b", "bobs"), ("c", "acme")):
        await admin.ledger.write(sample(record_id, project=project, cost_usd=PAID))
    answer = await rerate(admin, ("a", "-0.001"), ("b", "-0.001"), ("c", "-0.001"))

    assert (answer.status_code, answer.json()) == (200, {"adjustments": 3, "cost_usd": "-0.003"})
    assert {record.caused_by for record in admin.records() if record.kind == "adjustment"} == {"a", "b", "c"}
    events = [event for event in audit.list_events(admin.database, limit=9) if event.action == "ledger.rerate"]
    assert {(event.project, event.changes["adjustments"]["after"]) for event in events} == {("acme", 2), ("bobs", 1)}
    assert {event.actor for event in events} == {"admin"}


async def test_asked_twice_it_is_done_once(admin: Admin) -> None:
    await admin.ledger.write(sample("a", cost_usd=PAID))
    await rerate(admin, ("a", "-0.001"))
    again = await rerate(admin, ("a", "-0.001"))

    assert (again.status_code, again.json()) == (200, {"adjustments": 0, "cost_usd": "0"})
    assert len(admin.records()) == 2


@pytest.mark.parametrize("difference", [("a", "-0.002"), ("a", "0.001"), ("nothing", "-0.001")])
async def test_a_difference_that_is_not_that_of_the_price_in_force_writes_nothing(
    admin: Admin, difference: tuple[str, str]
) -> None:
    for record_id in ("a", "b"):
        await admin.ledger.write(sample(record_id, cost_usd=PAID))
    answer = await rerate(admin, ("b", "-0.001"), difference)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "differences")
    assert len(admin.records()) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"differences": []},
        {"differences": [{"of": "a"}]},
        {"differences": [{"of": "a", "cost_usd": 1}]},
        {"differences": [{"of": "a", "cost_usd": "1"}] * 501},
        {"differences": [], "all": True},
    ],
)
async def test_a_body_of_another_form_is_refused(admin: Admin, body: dict[str, Any]) -> None:
    answer = await admin.client.post("adjustments/rerate", json=body)

    assert answer.status_code == 422


async def test_two_nodes_that_rerate_the_same_records_write_each_difference_once(
    tmp_path: Path, postgres_database: Database
) -> None:
    """At the same time, one after the other before anything is shipped, and after."""
    one, other = (admin_of(tmp_path / name, postgres_database, f"{name}-") for name in ("one", "other"))
    async with one as first, other as second:
        for number in range(20):
            await first.ledger.write(sample(f"c{number}", cost_usd=PAID))
        ship(first)
        asked = [(f"c{number}", "-0.001") for number in range(20)]
        answers = [await rerate(node, *asked[at:]) for at in (10, 5) for node in (first, second)]
        answers += await asyncio.gather(*(rerate(node, *asked) for node in (first, second)))
        assert [answer.status_code for answer in answers] == [200] * 6
        assert sum(answer.json()["adjustments"] for answer in answers) == 20
        for node in (first, second):
            ship(node)
        assert (await rerate(second, *asked)).json() == {"adjustments": 0, "cost_usd": "0"}
        [row] = reports.report([postgres_database], [])
        assert (row.calls, row.cost_usd, row.adjustments_cost_usd) == (20, 20 * 33_602_100, -20 * 1_000_000)


async def test_asked_for_at_once_each_difference_is_written_noted_and_counted_once(admin: Admin) -> None:
    """A lower price that budgets counted twice would let more through than they allow."""
    ids = [f"c{number}" for number in range(20)]
    await asyncio.gather(*(admin.ledger.write(sample(record_id, cost_usd=PAID)) for record_id in ids))
    answers = await asyncio.gather(*(rerate(admin, *((record_id, "-0.001") for record_id in ids)) for _ in range(4)))

    assert [answer.status_code for answer in answers] == [200] * 4
    assert sum(answer.json()["adjustments"] for answer in answers) == 20
    events = [event for event in audit.list_events(admin.database, limit=9) if event.action == "ledger.rerate"]
    assert [event.changes["adjustments"]["after"] for event in events] == [20]
    [counter] = counters("acme", "", [parse("usd=100,per=total")], [])
    assert await admin.limiter.used("2026-11-21", [counter]) == [Taken(-20 * 1_000_000)]
