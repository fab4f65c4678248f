"""Where the ledger is read: cursors that move to PostgreSQL, nodes that ship at once, what isn't there yet; plans."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from proxy.billing import ledger_reading, partitions, reports, rerating, shipping, sources
from proxy.billing.exports import CursorRefused, Export
from proxy.billing.partitions import partition_of
from proxy.billing.prices import PriceBook
from proxy.billing.records import COLUMNS
from proxy.billing.rerating import Selection
from proxy.billing.sources import Sources, Unshipped
from proxy.store.database import Database, open_database
from tests.billing.sample import NOON, sample
from tests.billing.shipped import ship_all
from tests.contracts.ledgers import write
from tests.postgres_servers import PostgresServer

DAY = 86_400_000_000


def ids(export: Export) -> list[str]:
    return [row[1] for rows in export for row in rows]


def test_a_cursor_made_from_files_goes_on_in_postgresql(tmp_path: Path, postgres_database: Database) -> None:
    """Before all that it is behind was shipped, there is nothing new of its files; of others there is."""
    for slot in ("0", "1"):
        write(tmp_path, slot, [sample(f"{slot}-{number}") for number in range(700)])
    here = Sources(tmp_path)
    before = Export(here.bill(), None, None)
    assert len(ids(before)) == 1_400
    moved = Sources(tmp_path, postgres_database)
    with pytest.raises(CursorRefused, match="shipped nothing yet\\? Try again then"):
        Export(moved.bill(), None, None, before.cursor)

    first, second = here.files()
    ship_all(postgres_database, second)
    _ship_some(postgres_database, first, 300)
    write(tmp_path, "1", [sample("1-new")])
    ship_all(postgres_database, second)
    export = Export(moved.bill(), None, None, before.cursor)
    assert export.unshipped == [before.cursor.split(":")[0]]
    assert ids(export) == ["1-new"]
    ship_all(postgres_database, first)
    write(tmp_path, "0", [sample("0-new")])
    ship_all(postgres_database, first)
    export = Export(moved.bill(), None, None, export.cursor)
    assert (ids(export), export.unshipped) == (["0-new"], [])
    assert ids(Export(here.bill(), None, None, export.cursor)) == []


def _ship_some(database: Database, path: Path, count: int) -> None:
    with ledger_reading.reading(path) as connection:
        file_id = ledger_reading.file_id_of(connection)
        cursor = shipping.look(database, {file_id: shipping.Place("node", "0")}, [])[file_id]
        shipping.Shipping(database).ship(file_id, cursor, shipping.read_page(connection, file_id, 0)[:count])


def test_exports_while_nodes_ship_have_each_record_once(tmp_path: Path, postgres_database: Database) -> None:
    """Three nodes write and ship at the same time; an export goes on and on behind its cursor."""

    def node(name: str) -> None:
        for step in range(12):
            write(tmp_path / name, "0", [sample(f"{name}-{step}-{number}") for number in range(20)])
            ship_all(postgres_database, tmp_path / name / "ledger" / "0.db")

    threads = [threading.Thread(target=node, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    bill, cursor, told = Sources(tmp_path / "here", postgres_database).bill(), "start", list[str]()
    more = True
    while more:
        more = any(thread.is_alive() for thread in threads)  # once more when they have ended, for what came last
        export = Export(bill, None, None, cursor)
        told += ids(export)
        cursor = export.cursor
    assert len(told) == len(set(told)) == 3 * 12 * 20


def test_what_this_node_has_not_shipped_is_told(tmp_path: Path, postgres_database: Database) -> None:
    here = Sources(tmp_path, postgres_database)
    assert here.unshipped() is None
    write(tmp_path, "0", [sample("a"), sample("b", started_at=NOON + 5)])
    write(tmp_path, "control", [sample("adj_1", started_at=NOON + 9)])
    assert here.unshipped() == Unshipped(3, NOON)
    ship_all(postgres_database, here.files()[0])
    assert here.unshipped() == Unshipped(1, NOON + 9)
    write(tmp_path, "0", [sample("c", started_at=NOON + 7), sample("d", started_at=NOON + 6)])
    assert here.unshipped() == Unshipped(3, NOON + 6)
    for path in here.files():
        ship_all(postgres_database, path)
    assert here.unshipped() is None
    assert Sources(tmp_path).unshipped() is None


MONTHS = [datetime(2026, month, 1, tzinfo=UTC) for month in range(6, 13)]
FILES = [f"{number:032x}" for number in range(4)]


@pytest.fixture(scope="module")
def large(postgres_server: PostgresServer, postgres_schema: str) -> Iterator[Database]:
    """50,000 records of four files in six months, and their sums; some are adjustments."""
    made = postgres_server.database(postgres_schema)
    database = open_database(made.storage())
    begin, end = (int(month.timestamp()) * 1_000_000 for month in (MONTHS[0], MONTHS[-1]))
    partitions.make(database, [partition_of(int(month.timestamp()) * 1_000_000) for month in MONTHS[:-1]])
    values = dict.fromkeys(COLUMNS, "NULL")
    values |= dict.fromkeys(("images", "searches", "request_bytes", "response_bytes"), "0")
    values |= dict.fromkeys(("key_name", "upstream", "model_asked", "period"), "'x'") | {"estimated": "n % 2"}
    values |= {
        "record_id": "md5(n::text)::uuid::text",
        "request_id": "md5('q' || n)::uuid::text",
        "kind": "CASE WHEN n % 100 = 0 THEN 'adjustment' ELSE 'call' END",
        "operation": "CASE WHEN n % 100 = 0 THEN 'adjustment' ELSE 'generateContent' END",
        "caused_by": "CASE WHEN n % 100 = 0 THEN md5((n - 1)::text) END",
        "started_at": f"{begin} + n * {(end - begin) // 50_000}::bigint",
        "project": "'p' || n % 20",
        "key_id": "'k' || n % 40",
        "model": "'m' || n % 5",
        "outcome": "'ok'",
        "cost_usd": "n",
        "usage": "repeat('x', 300)",
    }
    with made.client() as client:
        client.execute(
            f"INSERT INTO usage_records (seq, file_id, {', '.join(values)})"
            f" SELECT n / 4 + 1, lpad(to_hex(n % 4), 32, '0'), {', '.join(values.values())}"
            " FROM generate_series(0, 49999) AS n"
        )
        client.execute(
            "INSERT INTO usage_hourly"
            " SELECT started_at / 3600000000 * 3600, project, key_id, model, operation, upstream,"
            " '', outcome, estimated, count(*), 0, 0, 0, 0, 0, 0, 0, 0, sum(cost_usd), 0 FROM usage_records"
            " GROUP BY 1, 2, 3, 4, 5, 6, 8, 9"
        )
        client.execute("INSERT INTO shipped SELECT file_id, max(seq), '', 0, 'n', '0', 0 FROM usage_records GROUP BY 1")
        client.execute("ANALYZE")
    yield database
    database._backend.reader.dispose()


SINCE, UNTIL = datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 5, tzinfo=UTC)
BOUNDS = reports.within(SINCE, UNTIL)
BOOK = PriceBook.of(None)
MONTH = {"usage_records_2026_09"}
ASKED: dict[str, Callable[[Database], Any]] = {
    "a report": lambda db: reports.report([db], ["project", "model"], SINCE, UNTIL),
    "a report by day": lambda db: reports.report([db], ["day"], SINCE, UNTIL, "Asia/Kolkata"),
    "a project's report": lambda db: reports.report([db], ["day"], SINCE, UNTIL, project="p1"),
    "an export": lambda db: list(reports.export([db], SINCE, UNTIL)),
    "an export that goes on": lambda db: list(Export([db], SINCE, UNTIL, f"{FILES[0]}:6000")),
    "rerating": lambda db: list(rerating.rerate([db], BOOK, Selection(*BOUNDS, project="p1", model="m*"))),
    "what was adjusted by hand": lambda db: rerating.by_hand([db], BOUNDS[0]),
    "a record": lambda db: reports.find([db], "c4ca4238-a0b9-2382-0dcc-509a6f75849b"),
    "records of a request": lambda db: reports.of_request([db], "c4ca4238-a0b9-2382-0dcc-509a6f75849b", "p1", 9),
    "records to be priced anew": lambda db: rerating.rerate_these([db], BOOK, ["a", "b"]),
}


@pytest.mark.parametrize("asked", ASKED)
def test_nothing_is_read_by_looking_through_all_of_a_table(
    large: Database, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Each statement's own plan: through an index, and of a period that has bounds, in its months alone."""
    plans: list[tuple[str, dict[str, Any]]] = []
    named = sources._PostgresReader.named

    def explained(reader: Any, sql: str, values: Any) -> Any:
        with large.reading() as connection:
            plan = connection.execute(text(f"EXPLAIN (FORMAT JSON) {sql}"), values).scalar_one()[0]["Plan"]
        plans.append((sql, plan))
        return named(reader, sql, values)

    monkeypatch.setattr(sources._PostgresReader, "named", explained)
    ASKED[asked](large)
    assert plans
    for sql, plan in plans:
        read = list(_scans(plan))
        whole = [name for kind, name in read if kind == "Seq Scan" and re.match("usage_", name)]
        assert not whole, (sql, plan)
        if "started_at >= " in sql and "started_at < " in sql:
            assert {name for _, name in read} <= MONTH | {"shipped"}, sql


def _scans(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "Relation Name" in plan:
        yield plan["Node Type"], plan["Relation Name"]
    for below in plan.get("Plans", ()):
        yield from _scans(below)
