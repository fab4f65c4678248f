"""A key's own account, asked at the gateway door."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.billing import reports
from proxy.billing.records import id_maker
from proxy.billing.sources import Sources
from proxy.config.addresses import parse_network
from proxy.config.schema import Storage
from proxy.gateway.access import Access
from proxy.gateway.account import Account
from proxy.gateway.ended import Ended
from proxy.gateway.in_flight import QUESTIONS_AT_ONCE
from proxy.store.database import Database, open_database, upgrade
from proxy.telemetry.metrics import Metrics
from proxy.tenants import keys, projects
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from tests.billing.sample import NOON, sample
from tests.billing.shipped import ship_all
from tests.billing.test_reports import written
from tests.billing.test_retention import remove
from tests.gateway.wire import Door, Response, door, parse
from tests.postgres_servers import PostgresServer

pytestmark = pytest.mark.anyio

HOUR = 3_600_000_000
DAY = 24 * HOUR
new_id = id_maker(lambda: NOON // 1000, secrets.token_bytes)
MINE, THEIRS = new_id(), new_id()


class Stand(NamedTuple):
    door: Door
    database: Database
    data_dir: Path
    alice: str
    bob: str

    async def ask(self, path: str, key: str | None = None, method: str = "GET", *headers: str) -> Response:
        lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", *headers]
        if key != "":
            lines.append(f"x-goog-api-key: {key or self.alice}")
        return parse(await self.door.ask("\r\n".join([*lines, "", ""]).encode()))

    async def told(self, path: str, key: str | None = None) -> Any:
        answer = await self.ask(path, key)
        assert answer.status == 200, answer.body
        assert answer.headers[b"cache-control"] == b"no-store"
        return json.loads(answer.body)

    async def refused(self, path: str, key: str | None = None, method: str = "GET", *headers: str) -> tuple[int, str]:
        answer = await self.ask(path, key, method, *headers)
        error = json.loads(answer.body)["error"]
        assert error["code"] == answer.status
        assert error["details"][0]["domain"] == "weighbridge"
        reason = str(error["details"][0]["reason"])
        assert answer.headers[b"x-weighbridge-refused"] == reason.encode()
        return answer.status, reason


RECORDS = (
    sample("a", project="alice", request_id=MINE),
    sample("b", project="alice", model="gemini-3.8-flash", request_id=MINE, upstream="secret-account"),
    sample("c", project="alice", started_at=NOON - DAY),
    sample("adj_1", project="alice", kind="adjustment", operation="adjustment", request_id=MINE, cost_usd=-100),
    sample("d", project="bob", request_id=THEIRS),
)
"""Of alice two calls at noon, one the day before, and an adjustment of the first; of bob one call."""


@asynccontextmanager
async def standing(data_dir: Path, database: Database) -> AsyncIterator[Stand]:
    """The account of a node whose files are in `data_dir`."""
    made = {}
    for project in ("alice", "bob"):
        projects.create(database, project, NOON, actor="test")
        made[project] = keys.create(database, project, "test", NOON, secrets.randbelow, actor="test")[1]
    keyring = Keyring(database, now=lambda: NOON, monotonic=lambda: 0.0)

    async def limits_in_use(tenant: Tenant) -> dict[str, Any]:
        return {"project": tenant.project, "limits": []}

    metrics = Metrics("0", [])
    account = Account(
        sources=Sources.of(Storage(data_dir=data_dir), database),
        keyring=keyring,
        limits_in_use=limits_in_use,
        timezone="America/Los_Angeles",
        metrics=metrics,
        ended=Ended(metrics, Access(), lambda: 0.0),
        trusted_proxies=[parse_network("127.0.0.0/8")],
        now=lambda: NOON + HOUR // 2,
        monotonic=lambda: 0.0,
    )
    async with door(account) as served:
        yield Stand(served, database, data_dir, made["alice"], made["bob"])
    await keyring.close()


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """With RECORDS in its file."""
    await written(tmp_path, *RECORDS)
    async with standing(tmp_path, open_database(Storage(data_dir=tmp_path))) as made:
        yield made


async def test_a_project_is_told_what_it_spent_by_day_and_model(stand: Stand) -> None:
    told = await stand.told("/weighbridge/v1/usage")
    assert (told["project"], told["since"], told["until"]) == ("alice", "2026-11-01T07:00:00Z", None)
    rows = [(row["day"], row["model"], row["calls"], row["cost_usd"]) for row in told["rows"]]
    assert rows == [
        ("2026-11-20", "gemini-2.5-flash-image", 1, "0.0336021"),
        ("2026-11-21", "gemini-2.5-flash-image", 1, "0.033602"),
        ("2026-11-21", "gemini-3.8-flash", 1, "0.0336021"),
    ]
    assert (told["total"]["calls"], told["total"]["adjustments_cost_usd"]) == (3, "-0.0000001")
    assert [row["cost_usd"] for row in (await stand.told("/weighbridge/v1/usage", stand.bob))["rows"]] == ["0.0336021"]


async def test_usage_is_bounded_in_time_and_comes_in_pages(stand: Stand) -> None:
    told = await stand.told("/weighbridge/v1/usage?since=2026-11-20&until=2026-11-21&by=model")
    assert told["total"]["calls"] == 1
    assert (await stand.told("/weighbridge/v1/usage?since=2026-11-21T12:00%2B00:00"))["total"]["calls"] == 2
    rows, token = [], "0"
    while token is not None:
        told = await stand.told(f"/weighbridge/v1/usage?page_size=2&page_token={token}")
        rows += told["rows"]
        token = told["next_page_token"]
        assert told["total"]["calls"] == 3
    assert len(rows) == 3


async def test_a_call_is_told_with_all_that_it_cost_and_nothing_of_the_operators(stand: Stand) -> None:
    told = await stand.told(f"/weighbridge/v1/calls/{MINE}")
    assert (told["cost_usd"], told["estimated"]) == ("0.0672041", False)
    assert [record["record_id"] for record in told["records"]] == ["a", "b", "adj_1"]
    assert told["records"][0]["rates"]["output_image"] == {"quantity": 1120, "usd_per_million": "30"}
    assert "secret-account" not in json.dumps(told)
    page = await stand.told(f"/weighbridge/v1/calls/{MINE}?page_size=1&page_token=1")
    assert ([record["record_id"] for record in page["records"]], page["cost_usd"]) == (["b"], told["cost_usd"])


async def test_a_call_without_a_price_has_no_cost(stand: Stand) -> None:
    request = new_id()
    await written(
        stand.data_dir, *(sample(f"u{at}", project="bob", request_id=request, cost_usd=at) for at in (None, 5))
    )
    assert (await stand.told(f"/weighbridge/v1/calls/{request}", stand.bob))["cost_usd"] is None


@pytest.mark.parametrize("request_id", [THEIRS, new_id(), "' OR 1=1 --", "%00", "x" * 101, "a/b", ""])
async def test_a_call_of_another_project_is_as_unknown_as_one_that_never_was(stand: Stand, request_id: str) -> None:
    status, reason = await stand.refused(f"/weighbridge/v1/calls/{request_id.replace(' ', '%20')}")
    assert (status, reason) in [(404, "CALL_NOT_FOUND"), (404, "UNKNOWN_OPERATION")]
    assert (await stand.told(f"/weighbridge/v1/calls/{THEIRS}", stand.bob))["cost_usd"] == "0.0336021"


async def test_a_call_of_which_a_record_was_removed_is_told_as_gone_and_not_at_what_is_left(stand: Stand) -> None:
    before = await stand.told("/weighbridge/v1/usage")
    assert remove(stand.data_dir, NOON + HOUR, most=1) == 1
    error = json.loads((await stand.ask(f"/weighbridge/v1/calls/{MINE}")).body)["error"]
    assert error["details"][0]["reason"] == "CALL_NOT_FOUND"
    assert error["message"].endswith("Calls from before 2026-11-21T12:00Z stand in /weighbridge/v1/usage only.")
    assert await stand.told("/weighbridge/v1/usage") == before
    later = id_maker(lambda: NOON // 1000 + 1, secrets.token_bytes)()
    await written(stand.data_dir, sample("late", project="alice", request_id=later))
    assert (await stand.told(f"/weighbridge/v1/calls/{later}"))["cost_usd"] == "0.0336021"


async def test_the_limits_of_the_key_that_asks_are_told(stand: Stand) -> None:
    assert (await stand.told("/weighbridge/v1/limits", stand.bob))["project"] == "bob"


async def test_a_key_stands_where_it_may_for_any_call(stand: Stand) -> None:
    path = "/weighbridge/v1/limits"
    assert (await stand.ask(path, "", "GET", f"authorization: Bearer {stand.bob}")).status == 200
    assert (await stand.ask(path, "", "GET", f"x-api-key: {stand.bob}")).status == 200
    assert (await stand.ask(f"{path}?key={stand.bob}", "")).status == 200
    assert await stand.refused(path, "") == (403, "API_KEY_MISSING")
    assert await stand.refused(path, "wb_nonsense") == (400, "API_KEY_INVALID")
    assert await stand.refused(f"{path}?key={stand.bob}") == (400, "CREDENTIALS_CONFLICT")


async def test_a_key_that_may_be_used_from_elsewhere_only_is_refused_here(stand: Stand) -> None:
    _, key = keys.create(
        stand.database, "alice", "narrow", NOON, secrets.randbelow, actor="test", addresses=["10.0.0.0/8"]
    )
    assert await stand.refused("/weighbridge/v1/usage", key) == (403, "ADDRESS_NOT_ALLOWED")
    assert (await stand.ask("/weighbridge/v1/usage", key, "GET", "x-forwarded-for: 10.1.2.3")).status == 200


@pytest.mark.parametrize(
    "query",
    [
        *(
            "by=project",
            "by=upstream",
            "by=day,day",
            "by=%ff",
            "since=yesterday",
            "since=0001-01-01",
            "until=9999-12-31",
        ),
        *("since=2025-01-01", "by=hour&since=2026-10-01", "page_size=0", "page_size=1001", "page_size=1e3"),
        *("page_token=-1", "project=bob", "since=2026-11-01&since=2026-11-02", "x" * 8200, "a=1;b=2"),
    ],
)
async def test_what_cannot_be_asked_is_refused(stand: Stand, query: str) -> None:
    assert await stand.refused(f"/weighbridge/v1/usage?{query}") == (400, "BAD_REQUEST")


@pytest.mark.parametrize(("method", "path"), [("POST", "v1/usage"), ("GET", "v1"), ("GET", "v2/usage"), ("GET", "")])
async def test_nothing_else_is_served(stand: Stand, method: str, path: str) -> None:
    assert await stand.refused(f"/weighbridge/{path}", None, method) == (404, "UNKNOWN_OPERATION")


async def test_a_ledger_that_cannot_be_read_is_told_without_its_path(stand: Stand) -> None:
    (stand.data_dir / "ledger" / "1.db").write_text("no database")
    answer = await stand.ask("/weighbridge/v1/usage")
    assert (answer.status, answer.headers[b"x-weighbridge-refused"]) == (503, b"LEDGER_UNAVAILABLE")
    assert str(stand.data_dir).encode() not in answer.body


async def test_a_key_has_so_many_questions_at_once_and_holds_up_nobody_else(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While alice's first is still being read, her fifth is refused, and bob is answered."""
    go_on, reading = threading.Event(), reports.report

    def slow(*arguments: Any) -> Any:
        if "alice" in arguments:
            go_on.wait(20)
        return reading(*arguments)

    monkeypatch.setattr(reports, "report", slow)
    asking = [asyncio.ensure_future(stand.ask("/weighbridge/v1/usage")) for _ in range(QUESTIONS_AT_ONCE + 3)]  # noqa: TID251
    done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 3:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {one.result().headers[b"x-weighbridge-refused"] for one in done} == {b"RATE_LIMITED"}
    assert (await stand.ask("/weighbridge/v1/usage", stand.bob)).status == 200
    go_on.set()
    assert [(await one).status for one in waiting] == [200] * QUESTIONS_AT_ONCE
    assert (await stand.ask("/weighbridge/v1/usage")).status == 200


async def test_a_year_of_days_can_be_asked_for(stand: Stand) -> None:
    since = (datetime(2026, 11, 21, 12, tzinfo=UTC) - timedelta(days=365)).date()
    assert (await stand.told(f"/weighbridge/v1/usage?since={since}"))["total"]["calls"] == 3


async def test_of_several_nodes_each_tells_its_own_calls_at_once_and_all_that_was_shipped(
    tmp_path: Path, postgres_database: Database
) -> None:
    """A call of which some records are here, some shipped from elsewhere, and some both is told whole, each once."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    [own] = await written(here, *RECORDS[:3])
    [others] = await written(elsewhere, *RECORDS[3:])
    async with standing(here, postgres_database) as stand:
        told = await stand.told(f"/weighbridge/v1/calls/{MINE}")
        assert (told["cost_usd"], len(told["records"])) == ("0.0672042", 2)
        assert (await stand.told("/weighbridge/v1/usage"))["total"]["calls"] == 0
        assert await stand.refused(f"/weighbridge/v1/calls/{THEIRS}", stand.bob) == (404, "CALL_NOT_FOUND")
        for path in (others, own):
            ship_all(postgres_database, path)
            told = await stand.told(f"/weighbridge/v1/calls/{MINE}")
            assert (told["cost_usd"], sorted(record["record_id"] for record in told["records"])) == (
                "0.0672041",
                ["a", "adj_1", "b"],
            )
        total = (await stand.told("/weighbridge/v1/usage"))["total"]
        assert (total["calls"], total["cost_usd"]) == (3, "0.1008062")
        assert (await stand.told(f"/weighbridge/v1/calls/{THEIRS}", stand.bob))["cost_usd"] == "0.0336021"
        assert await stand.refused(f"/weighbridge/v1/calls/{THEIRS}") == (404, "CALL_NOT_FOUND")


async def test_while_postgresql_is_away_a_call_of_this_node_is_told_and_nothing_is_told_wrong(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    await written(tmp_path, *RECORDS[:3])
    storage = own_postgres.database().storage()
    upgrade(storage)
    async with standing(tmp_path, open_database(storage)) as stand:
        await stand.told("/weighbridge/v1/usage")
        own_postgres.stop()
        answer = await stand.ask("/weighbridge/v1/usage")
        assert (answer.status, answer.headers[b"x-weighbridge-refused"]) == (503, b"STORE_UNAVAILABLE")
        error = json.loads(answer.body)["error"]["message"]
        assert error == "The database of the ledger can't be asked now. Try again; calls are not affected."
        assert (await stand.told(f"/weighbridge/v1/calls/{MINE}"))["cost_usd"] == "0.0672042"
        assert await stand.refused(f"/weighbridge/v1/calls/{new_id()}") == (503, "STORE_UNAVAILABLE")
        remove(tmp_path, NOON + HOUR, most=1)  # as what was shipped is pruned: the rest of the call isn't told for it
        assert await stand.refused(f"/weighbridge/v1/calls/{MINE}") == (503, "STORE_UNAVAILABLE")


async def test_who_waits_too_long_for_others_is_told_so(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on, reading = threading.Event(), threading.Event(), reports.report

    def slow(*arguments: Any) -> Any:
        began.set()
        go_on.wait(30)
        return reading(*arguments)

    monkeypatch.setattr(reports, "report", slow)
    first = asyncio.ensure_future(stand.ask("/weighbridge/v1/usage"))  # noqa: TID251
    assert await asyncio.to_thread(began.wait, 30)
    monkeypatch.setattr("proxy.gateway.account.LONGEST_WAIT_S", 0.05)
    assert await stand.refused("/weighbridge/v1/usage") == (503, "STORE_UNAVAILABLE")
    go_on.set()
    assert (await first).status == 200
