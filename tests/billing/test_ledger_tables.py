"""The ledger's tables in PostgreSQL: as the code knows them, as migrations make them, and insert-only."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, inspect

from proxy.billing.ledger_schema import HOURLY_ORDER, HOURLY_SUMS
from proxy.billing.ledger_tables import metadata, usage_hourly, usage_records
from proxy.billing.records import COLUMNS
from proxy.store import tables
from proxy.store.database import Database, StoreError
from proxy.store.schema import schema_support


def test_migrations_make_the_tables_that_the_code_knows(postgres_database: Database) -> None:
    ours = MetaData()
    for table in (*tables.metadata.sorted_tables, *metadata.sorted_tables, schema_support):
        table.to_metadata(ours)
    with postgres_database.reading() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, ours) == []
        for table in metadata.sorted_tables:
            columns = inspect(connection).get_columns(table.name)
            assert {column["type"].collation for column in columns if hasattr(column["type"], "collation")} <= {"C"}


def test_a_record_has_the_columns_of_the_ledger_file() -> None:
    assert {column.name for column in usage_records.columns} == {*COLUMNS, "seq", "file_id"}
    assert [column.name for column in usage_hourly.columns] == [*HOURLY_ORDER, *HOURLY_SUMS]


def test_a_record_is_neither_changed_nor_deleted(postgres_database: Database) -> None:
    def refused(statement: str) -> None:
        with pytest.raises(StoreError, match="insert-only"), postgres_database.noting() as connection:
            connection.exec_driver_sql(statement)

    with postgres_database.noting() as connection:
        connection.exec_driver_sql("CREATE TABLE usage_records_all PARTITION OF usage_records DEFAULT")
        columns = ", ".join(column.name for column in usage_records.columns if not column.nullable)
        values = ", ".join("1" if str(c.type) == "BIGINT" else "'x'" for c in usage_records.columns if not c.nullable)
        connection.exec_driver_sql(f"INSERT INTO usage_records ({columns}) VALUES ({values})")
    for table in ("usage_records", "usage_records_all"):
        refused(f"UPDATE {table} SET cost_usd = 0")
        refused(f"DELETE FROM {table}")
    refused("TRUNCATE usage_records")
