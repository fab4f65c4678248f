"""`weighbridge store move`, whole: killed again and again; and what goes on afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg

from proxy.billing.records import from_usd, to_usd
from proxy.config.schema import Storage
from proxy.store import copying
from proxy.store.database import open_database, upgrade
from tests.billing.shipped import records_in, records_of
from tests.journeys.limited import ASK, Held, call_at_once, limits_told, with_limits
from tests.journeys.outgrown import LEASES, Brake, await_held, fill
from tests.journeys.watching import body, until
from tests.postgres_servers import PASSWORD, PostgresDatabase
from tests.proof import Proof, sized
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge
from tests.upstreams.origin import serving

TABLES = {"projects", "keys", "key_uses", "audit_events", "events", "disabled_upstreams"}


def moving(folder: Path, postgres: PostgresDatabase) -> Weighbridge:
    """What has a data folder, and names a PostgreSQL that is empty."""
    storage = {"database_url": postgres.url, "database_password_env": "DATABASE_PASSWORD"}
    upgrade(postgres.storage())
    return Weighbridge(folder, "http://127.0.0.1:9", {"storage": storage}, environment={"DATABASE_PASSWORD": PASSWORD})


def moved(stand: Weighbridge) -> dict[str, Any]:
    """What `store move` tells at its end."""
    told: dict[str, Any] = json.loads(stand.run("store", "move", "--json"))
    return told


def killed_at(
    stand: Weighbridge, postgres: PostgresDatabase, table: str, event: str, condition: str
) -> tuple[int, int]:
    """Starts a move, and kills it within a transaction that changes such a row. What was there: records, projects."""
    with Brake(postgres).at(table, event, condition) as client:
        process = stand.popen("proxy", "store", "move")
        await_held(client)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        return counted(client)


def counted(client: psycopg.Connection) -> tuple[int, int]:
    """Records and projects of a database."""
    row = client.execute("SELECT (SELECT count(*) FROM usage_records), (SELECT count(*) FROM projects)").fetchone()
    assert row is not None
    return row[0], row[1]


def test_a_move_that_is_killed_goes_on_and_the_sums_are_equal(
    tmp_path: Path, postgres: PostgresDatabase, proof: Proof
) -> None:
    """Once while it ships the sums of records that retention had removed, once in the midst of records, once while it
    copies projects and keys.
    """
    records = sized(10_000, 1_000_000)
    stand = moving(tmp_path, postgres)
    calls, cost = fill(stand.data_dir, records, removed=records // 10)
    source = copying.told(open_database(Storage(data_dir=stand.data_dir)))
    left = records - records // 10 + LEASES
    found = [
        killed_at(stand, postgres, table, event, when)
        for table, event, when in (
            ("usage_hourly", "INSERT", "true"),
            ("shipped", "UPDATE", f"NEW.through_seq >= {records // 3}"),
            ("keys", "INSERT", "true"),
        )
    ]
    assert found[0] == (0, 0)
    assert 0 < found[1][0] < left
    assert found[2] == (left, 0)
    told = moved(stand)
    assert told["equal"]
    held = {one["what"]: (one["source"], one["target"]) for one in told["held"]}
    assert held["usage_records"] == (left, left)
    assert held.keys() >= TABLES
    months = [month["target"] for month in told["months"]]
    assert sum(month["calls"] for month in months) == calls
    assert sum(month["tokens"] for month in months) == calls * 1_127
    assert sum(from_usd(month["cost_usd"]) for month in months) == cost
    assert copying.told(open_database(postgres.storage())) == source
    files = [stand.data_dir / "ledger" / f"{slot}.db" for slot in "03"]
    if records <= 10_000:
        assert records_in(open_database(postgres.storage())) == sorted(
            (row for file in files for row in records_of(file)), key=lambda row: row[2]
        )
    assert moved(stand)["equal"], "once more, it finds all there"
    proof(records=left, removed_records=records // 10, calls=calls, cost_usd_nano=cost, kills=3, months=len(months))


async def test_limits_and_budgets_go_on_from_where_they_stood(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer, at_end: ExitStack
) -> None:
    """The server dies with a call in flight. After the move, the day's calls and the month's money are what they were,
    that call is on the bill, and its place is free; also in Redis, which nothing was copied to."""
    slow = Held()
    async with serving(slow, seconds=120) as held:
        stand = at_end.enter_context(closing(Weighbridge(tmp_path, held.url)))
        key = with_limits(stand, "rpd=5", "concurrency=1", "usd=1,per=month")
        slow.release.set()
        stand.start()
        assert await call_at_once(stand, key, ASK, body("hello"), 1) == [200]
        assert await call_at_once(stand, key, ASK, body("hello"), 1) == [200]
        slow.release.clear()
        calling = asyncio.get_running_loop().create_task(call_at_once(stand, key, ASK, body("hello"), 1))
        await asyncio.to_thread(until, lambda: slow.arrived == 3, "a call in flight")
        await asyncio.to_thread(stand.stop, signal.SIGKILL)
        await calling
        slow.release.set()
        stand.settings = {**moving(tmp_path, postgres).settings}
        stand.environment = {"DATABASE_PASSWORD": PASSWORD}
        assert (await asyncio.to_thread(moved, stand))["equal"]
        spent = sum(record.cost_usd or 0 for record in stand.records())
        stand.settings = {"storage": {**stand.settings["storage"], "redis_url": redis_server.url}}
        await asyncio.to_thread(stand.start)
        limits = {limit["kind"]: limit for limit in (await asyncio.to_thread(limits_told, stand))["limits"]}
        assert (limits["rpd"]["used"], limits["concurrency"]["used"]) == (3, 0)
        assert (limits["usd"]["used"], limits["usd"]["held"]) == (to_usd(spent), "0")
        assert spent > 0
        assert await call_at_once(stand, key, ASK, body("hello"), 1) == [200]
        assert await call_at_once(stand, key, ASK, body("hello"), 1) == [200]
        assert await call_at_once(stand, key, ASK, body("hello"), 1) == [429]
        assert Counter(record.outcome for record in stand.records()) == {"unsettled": 1, "ok": 4}
