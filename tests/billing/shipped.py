"""Ledger files to be shipped, and what PostgreSQL has of them, for the tests of shipping."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import text

from proxy.billing import ledger_schema as schema
from proxy.billing import shipping
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.ledger_reading import file_id_of, reading
from proxy.billing.records import COLUMNS, UsageRecord, to_row
from proxy.billing.shipping import Cursor, Place, Shipping
from proxy.store.database import Database
from proxy.store.folders import make_folder
from tests.billing.sample import NOON, sample


def put(data_dir: Path, *records: UsageRecord, leases: Sequence[UsageRecord] = (), slot: str = "0") -> Path:
    """Writes records and leases into the ledger file of a slot, in one commit; the file."""
    make_folder(data_dir / "ledger")
    with closing(
        LedgerFile.open(data_dir, slot, busy_timeout_s=30, ballast_bytes=0, random=os.urandom, locked=True)
    ) as file:
        opened = [(one.record_id, one.started_at, msgspec.json.encode(one)) for one in leases]
        file.commit(opened, [to_row(record) for record in records], [])
        return file.path


def calls(numbers: Iterable[int], name: str = "call", **changes: Any) -> list[UsageRecord]:
    """Calls of two projects, a minute apart."""
    return [
        sample(
            f"{name}-{number:06}",
            **{"started_at": NOON + number * 60_000_000, "project": ("acme", "zeta")[number % 2]} | changes,
        )
        for number in numbers
    ]


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def ship_all(database: Database, path: Path) -> Cursor:
    """All that the file has behind its cursor, as the shipper does it; where it is shipped through then."""
    shipping_of = Shipping(database)
    with reading(path) as connection:
        file_id = file_id_of(connection)
        cursor = shipping.look(database, {file_id: Place("node", path.stem)}, [])[file_id]
        while page := shipping.read_page(connection, file_id, cursor.seq):
            cursor = shipping_of.ship(file_id, cursor, page)
    return cursor


def records_in(database: Database) -> list[tuple[Any, ...]]:
    """file_id, seq and COLUMNS of each record, in the order of ids."""
    return rows(database, f"SELECT file_id, seq, {', '.join(COLUMNS)} FROM usage_records ORDER BY record_id")


def records_of(path: Path) -> list[tuple[Any, ...]]:
    """The same of a ledger file."""
    with reading(path) as connection:
        return connection.execute(
            f"SELECT file_id, seq, {', '.join(COLUMNS)} FROM usage_records, file ORDER BY record_id"
        ).fetchall()


def assert_sums_are_those_of_the_records(database: Database) -> None:
    """Of the hours, and of what each file's records cost; no row more, none less."""
    keys, sums = ", ".join(schema.HOURLY_ORDER), schema.HOURLY_SUMS
    hours = rows(database, f"SELECT {keys}, {', '.join(sums)} FROM usage_hourly ORDER BY {keys}")
    added_up = rows(
        database,
        f"SELECT {schema.HOUR_OF_NEW} AS hour, {schema.KEYS_OF_NEW}, {schema.SUMS_OF_NEW}"
        f" FROM usage_records AS new GROUP BY 1, {schema.KEYS_OF_NEW} ORDER BY 1, {schema.KEYS_OF_NEW}",
    )
    assert hours == added_up
    who = "file_id, period, project, key_id, model"
    spendings = rows(database, f"SELECT {who}, cost_usd FROM file_spendings ORDER BY {who}")
    spent = f"SELECT {who}, sum(coalesce(cost_usd, 0)) FROM usage_records GROUP BY {who} ORDER BY {who}"
    assert spendings == rows(database, spent)


def hours_of(path: Path) -> list[tuple[Any, ...]]:
    """Sums by hour of a ledger file."""
    keys = ", ".join(schema.HOURLY_ORDER)
    with reading(path) as connection:
        return connection.execute(
            f"SELECT {keys}, {', '.join(schema.HOURLY_SUMS)} FROM usage_hourly ORDER BY {keys}"
        ).fetchall()


def hours_in(database: Database) -> list[tuple[Any, ...]]:
    keys = ", ".join(schema.HOURLY_ORDER)
    return rows(database, f"SELECT {keys}, {', '.join(schema.HOURLY_SUMS)} FROM usage_hourly ORDER BY {keys}")
