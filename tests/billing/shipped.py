"""What PostgreSQL has of ledger files, for the tests of shipping: an empty ledger's database, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from proxy.billing import ledger_schema as schema
from proxy.billing import shipping
from proxy.billing.records import COLUMNS
from proxy.billing.reports import reading
from proxy.billing.shipping import Cursor, Place, Shipping
from proxy.config.schema import Storage
from proxy.store.database import Database, open_database, upgrade
from tests.postgres_servers import PASSWORD, PostgresDatabase


def storage_of(postgres: PostgresDatabase, **settings: Any) -> Storage:
    return Storage(database_url=postgres.url, database_password=SecretStr(PASSWORD), **settings)


def ledger_database(postgres: PostgresDatabase) -> Database:
    """The database, brought up to this program's version."""
    upgrade(storage_of(postgres))
    return open_database(storage_of(postgres))


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def ship_all(database: Database, path: Path) -> Cursor:
    """All that the file has behind its cursor, as the shipper does it."""
    shipping_of = Shipping(database)
    with reading(path) as connection:
        file_id = shipping.file_id_of(connection)
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
        f"SELECT {schema.HOUR_OF_NEW} AS hour, {schema.KEYS_OF_NEW}, {', '.join(f'sum({sql})' for sql in sums.values())}"
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
