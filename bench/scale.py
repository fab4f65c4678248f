"""The ledger in PostgreSQL at scale: a catching up by the shipper; millions of records, their sizes, plans and times.

python -m bench.scale [--records 10000000]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import event

from bench import long_ledger
from proxy.billing import file_spendings, reports, shipping
from proxy.billing.periods import DAY_US, Days
from proxy.billing.records import COLUMNS
from proxy.billing.shipping import Place, Row, Shipping
from proxy.config.schema import Storage
from proxy.control.shipper import Shipper
from proxy.store.database import Database, open_database, upgrade
from tests.postgres_servers import PostgresServer, running_postgres

CATCH_UP = 100_000
FILES = [f"{number:032x}" for number in range(2)]
"""Of two nodes."""
BEGINS, LASTS_US = long_ledger.BEGINS, 91 * DAY_US
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
MIB = 1 << 20
_SIZES = """
    SELECT name, sum(reltuples)::bigint, sum(pg_table_size(oid)), sum(pg_indexes_size(oid))
    FROM unnest(ARRAY['usage_records', 'usage_hourly', 'file_spendings']) AS name JOIN pg_class ON relkind = 'r'
        AND (relname = name OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = name::regclass))
    GROUP BY name ORDER BY 3 DESC"""
_INDEXES = """
    SELECT regexp_replace(indexrelname, 'usage_records_[0-9_]+', 'usage_records_…_'), sum(pg_relation_size(indexrelid))
    FROM pg_stat_user_indexes WHERE relname LIKE 'usage\\_%%' GROUP BY 1 ORDER BY 2 DESC"""


def _made(server: PostgresServer) -> Storage:
    storage = server.database().storage()
    upgrade(storage)
    return storage


def catch_up(database: Database, records: int) -> None:
    """Ships a ledger file of so many records, of which none is shipped; says how fast, and by how many commits."""
    commits = 0

    def count(_: object) -> None:
        nonlocal commits
        commits += 1

    with tempfile.TemporaryDirectory() as folder:
        long_ledger.make(Path(folder), records)
        shipper = Shipper(
            database,
            Path(folder),
            ["0"],
            lambda: time.time_ns() // 1000,
            node="bench",
            day_of=Days("UTC").name,
        )
        event.listen(database._backend.writer, "commit", count)
        began, processor = time.monotonic(), time.process_time()
        while shipper.step():
            pass
        took, used = time.monotonic() - began, time.process_time() - processor
        event.remove(database._backend.writer, "commit", count)
    print(
        f"{records:,} records in {took:.1f} s: {records / took:,.0f} a second, {shipping.PAGE_RECORDS:,} a commit,"
        f" {commits:,} commits in all; {used / records * 1e6:.1f} us of the shipper's processor time each"
    )


def fill(database: Database, storage: Storage, records: int) -> None:
    """So many records of a quarter, shipped by two processes at once as two nodes would."""
    began = time.monotonic()
    each = records // len(FILES)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as nodes:
        list(nodes.map(_ship, [storage] * len(FILES), FILES, [each] * len(FILES)))
    took = time.monotonic() - began
    print(f"{records:,} records of a quarter shipped in {took:,.0f} s: {records / took:,.0f} a second, by two at once")
    with database.noting(limit_s=600) as connection:
        connection.exec_driver_sql("ANALYZE usage_records, usage_hourly, file_spendings")


def _ship(storage: Storage, file_id: str, records: int) -> None:
    database = open_database(storage)
    ships, seq = Shipping(database), 0
    cursor = shipping.look(database, {file_id: Place("bench", file_id[-1])}, [file_id])[file_id]
    rows = long_ledger.rows(records, seed=int(file_id, 16), begins=BEGINS, lasts=LASTS_US)
    while page := list(islice(rows, shipping.PAGE_RECORDS)):
        made = []
        for row in page:
            seq += 1
            values = dict(zip(COLUMNS, row, strict=True)) | {"seq": seq, "file_id": file_id, "estimated": 0}
            made.append(Row(seq, values["record_id"], values["started_at"], values))
        cursor = ships.ship(file_id, cursor, made)


def tell_sizes(database: Database) -> None:
    with database.reading(limit_s=60) as connection:
        for name, rows, heap, indexes in connection.exec_driver_sql(_SIZES):
            per = f"; {heap / rows:,.0f} + {indexes / rows:,.0f} bytes a row" if rows else ""
            print(f"{name}: {rows:,} rows, {heap / MIB:,.0f} MiB, indexes {indexes / MIB:,.0f} MiB{per}")
        for name, size in connection.exec_driver_sql(_INDEXES):
            print(f"  {name}: {size / MIB:,.0f} MiB")


def tell_queries(database: Database) -> None:
    """The product's own questions: how long each takes, the second time, and the plan of its slowest statement."""
    with database.reading() as connection:
        middle = connection.exec_driver_sql(
            "SELECT record_id, request_id, project FROM usage_records"
            f" WHERE started_at >= {BEGINS + LASTS_US // 2} ORDER BY started_at LIMIT 1"
        ).one()
    record_id, request_id, project = middle
    since = datetime.fromtimestamp(BEGINS / 1e6, UTC) + timedelta(days=31)
    month = since, since + timedelta(days=30)
    days = "2026-10-29", "2026-10"
    for what, ask in (
        ("a month by project", lambda: reports.report([database], ["project"], *month)),
        ("a month by day and model", lambda: reports.report([database], ["day", "model"], *month)),
        ("all of it by month", lambda: reports.report([database], ["month"])),
        ("a project's month by day", lambda: reports.report([database], ["day"], *month, project=project)),
        ("the records of a request", lambda: reports.of_request([database], request_id, project, 100)),
        ("one record", lambda: reports.find([database], record_id)),
        ("export: 10,000 records of a month", lambda: list(islice(reports.export([database], *month), 10_000))),
        ("what files spent, one project", lambda: list(file_spendings.of_files(database, [], *days, project))),
        ("what files spent, all projects", lambda: list(file_spendings.of_files(database, [], *days))),
    ):
        _tell(database, what, ask)


def _tell(database: Database, what: str, ask: Callable[[], object]) -> None:
    ask()
    asked: list[tuple[float, str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        asked.append((time.monotonic(), statement, parameters))

    engine = database._backend.reader  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", note)
    began = time.monotonic()
    ask()
    took = time.monotonic() - began
    event.remove(engine, "before_cursor_execute", note)
    asked.append((time.monotonic(), "", None))
    times = [later[0] - earlier[0] for earlier, later in pairwise(asked)]
    print(f"\n{what}: {took * 1000:,.1f} ms, {sum('SELECT' in one[1] for one in asked)} statements")
    at = max((at for at in range(len(times)) if "FROM" in asked[at][1]), key=times.__getitem__)
    with database.reading(limit_s=60) as connection:
        for (line,) in connection.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF) {asked[at][1]}", asked[at][2]):
            print(f"    {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000)
    records = parser.parse_args().records
    with running_postgres(durable=True, settings=SETTINGS) as server:
        catch_up(open_database(_made(server)), CATCH_UP)
        storage = _made(server)
        database = open_database(storage)
        fill(database, storage, records)
        tell_sizes(database)
        tell_queries(database)


if __name__ == "__main__":
    main()
