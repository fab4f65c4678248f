"""`weighbridge store move`, whole: killed again and again; and what goes on afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
import tomllib
from collections import Counter
from collections.abc import Mapping
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
from tests.pages import chapter_of
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
    calls, cost = fill(stand.data_dir, records + records // 10, removed=records // 10)
    source = copying.told(open_database(Storage(data_dir=stand.data_dir)))
    left, began = records + LEASES, time.monotonic()
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
    took_s = time.monotonic() - began
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
    proof(
        records=left,
        removed_records=records // 10,
        calls=calls,
        cost_usd_nano=cost,
        kills=3,
        months=len(months),
        seconds=round(took_s),
    )


def test_where_sums_differ_projects_and_keys_are_not_copied(tmp_path: Path, postgres: PostgresDatabase) -> None:
    """PostgreSQL refuses one record: it is kept apart, the table says what differs, and the command ends with 1."""
    stand = moving(tmp_path, postgres)
    fill(stand.data_dir, 20)
    with postgres.client() as client:
        client.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '22000'; END $$"
        )
        client.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON usage_records FOR EACH ROW WHEN (NEW.record_id = '3-0000007')"
            " EXECUTE FUNCTION refuse()"
        )
    process = stand.popen("proxy", "store", "move")
    out, _ = process.communicate()
    assert process.returncode == 1
    rows = [line.split() for line in out.splitlines()]
    assert ["usage_records", "23", "22", "DIFFERS"] in rows
    assert ["refused_records", "0", "1", "DIFFERS"] in rows
    assert "The sums differ: go on with the old configuration" in out
    with postgres.client() as client:
        assert counted(client) == (22, 0)


async def test_limits_and_budgets_go_on_from_where_they_stood(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer, at_end: ExitStack
) -> None:
    """docs/store-move.md, followed to the letter, from a server that died in a call: the day's calls and the month's
    money are what they were, from the first call on and whichever worker it meets; that call is on the bill, and its
    place is free."""
    slow = Held()
    async with serving(slow, seconds=120) as held:
        stand = at_end.enter_context(closing(Weighbridge(tmp_path, held.url)))
        key = with_limits(stand, "rpd=5", "concurrency=1", "usd=1,per=month")
        slow.release.set()
        await asyncio.to_thread(stand.start)
        assert await called(stand, key, 2) == [200, 200]
        slow.release.clear()
        calling = asyncio.get_running_loop().create_task(called(stand, key, 1))
        await asyncio.to_thread(until, lambda: slow.arrived == 3, "a call in flight")
        await asyncio.to_thread(stand.stop, signal.SIGKILL)
        assert await calling == [0]
        slow.release.set()
        stand.environment = {"DATABASE_PASSWORD": PASSWORD}
        printed = await asyncio.to_thread(follow, stand, {"database_url": postgres.url, "redis_url": redis_server.url})
        assert "All is moved, and the sums are equal." in printed["weighbridge store move"]
        assert "of 1 of them, something is" in printed["weighbridge store move"]
        spent = sum(record.cost_usd or 0 for record in stand.records())
        assert spent > 0
        assert to_usd(spent) in printed["weighbridge store move"]
        assert to_usd(spent) in printed["weighbridge usage report --by month"]
        limits = {limit["kind"]: limit for limit in (await asyncio.to_thread(limits_told, stand))["limits"]}
        assert (limits["rpd"]["used"], limits["concurrency"]["used"]) == (3, 0)
        assert (limits["usd"]["used"], limits["usd"]["held"]) == (to_usd(spent), "0")
        assert await called(stand, key, 3) == [200, 200, 429]
        assert Counter(record.outcome for record in stand.records()) == {"unsettled": 1, "ok": 4}


async def called(stand: Weighbridge, key: str, count: int) -> list[int]:
    """The statuses of so many calls, one after another."""
    return [status for _ in range(count) for status in await call_at_once(stand, key, ASK, body("hello"), 1)]


def follow(stand: Weighbridge, places: Mapping[str, str]) -> dict[str, str]:
    """Does what the page says, step by step; what each command printed. `places`: settings that lead elsewhere."""
    printed = {}
    blocks = re.findall(r"^```(toml|sh)\n(.*?)^```$", chapter_of("docs/store-move.md", "Step by step"), re.M | re.S)
    assert [language for language, _ in blocks] == ["toml", "sh", "sh"]
    for language, block in blocks:
        if language == "toml":
            for name, section in tomllib.loads(block).items():
                before = stand.settings.get(name, {})
                assert isinstance(before, Mapping)
                stand.settings = {
                    **stand.settings,
                    name: {
                        **before,
                        **section,
                        **{setting: place for setting, place in places.items() if setting in section},
                    },
                }
            continue
        for line in block.splitlines():
            if line == "weighbridge serve":
                stand.start()
            else:
                printed[line] = stand.run(*line.split()[1:])
    return printed
