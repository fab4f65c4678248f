"""The ledger's tables in PostgreSQL: as the code knows them, as migrations make them, and insert-only."""

from __future__ import annotations

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, inspect

from proxy.billing.ledger_schema import HOURLY_ORDER, HOURLY_SUMS
from proxy.billing.ledger_tables import metadata, usage_hourly, usage_records
from proxy.billing.records import COLUMNS
from proxy.store import tables
from proxy.store.database import open_database, upgrade
from proxy.store.schema import schema_support
from tests.billing.shipped import storage_of
from tests.postgres_servers import PostgresDatabase


def test_migrations_make_the_tables_that_the_code_knows(postgres: PostgresDatabase) -> None:
    upgrade(storage_of(postgres))
    ours = MetaData()
    for table in (*tables.metadata.sorted_tables, *metadata.sorted_tables, schema_support):
        table.to_metadata(ours)
    with open_database(storage_of(postgres)).reading() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, ours) == []
        for table in metadata.sorted_tables:
            columns = inspect(connection).get_columns(table.name)
            assert {column["type"].collation for column in columns if hasattr(column["type"], "collation")} <= {"C"}


def test_a_record_has_the_columns_of_the_ledger_file() -> None:
    assert {column.name for column in usage_records.columns} == {*COLUMNS, "seq", "file_id"}
    assert [column.name for column in usage_hourly.columns] == [*HOURLY_ORDER, *HOURLY_SUMS]


def test_a_record_is_neither_changed_nor_deleted(postgres: PostgresDatabase) -> None:
    upgrade(storage_of(postgres))
    with postgres.client() as client:
        client.execute("CREATE TABLE usage_records_all PARTITION OF usage_records DEFAULT")
        columns = ", ".join(column.name for column in usage_records.columns if not column.nullable)
        values = ", ".join("1" if str(c.type) == "BIGINT" else "'x'" for c in usage_records.columns if not c.nullable)
        client.execute(f"INSERT INTO usage_records ({columns}) VALUES ({values})")
        for table in ("usage_records", "usage_records_all"):
            for statement in (f"UPDATE {table} SET cost_usd = 0", f"DELETE FROM {table}"):
                with pytest.raises(psycopg.errors.RaiseException, match="insert-only"):
                    client.execute(statement)
        with pytest.raises(psycopg.errors.RaiseException, match="insert-only"):
            client.execute("TRUNCATE usage_records")
