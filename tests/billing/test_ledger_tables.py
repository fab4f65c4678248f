"""The ledger's tables in PostgreSQL: as the code knows them, as migrations make them, and insert-only."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, engine, inspect

import proxy.store.migrations
from proxy.billing.ledger_schema import HOURLY_ORDER, HOURLY_SUMS
from proxy.billing.ledger_tables import metadata, usage_hourly, usage_records
from proxy.billing.records import COLUMNS
from proxy.store import tables
from tests.postgres_servers import PASSWORD, PostgresDatabase


def engine_of(postgres: PostgresDatabase) -> engine.Engine:
    url = engine.make_url(postgres.url).set(drivername="postgresql+psycopg", password=PASSWORD)
    return create_engine(url, poolclass=None, connect_args={"prepare_threshold": None})


@pytest.fixture
def migrated(postgres: PostgresDatabase) -> PostgresDatabase:
    config = Config()
    config.set_main_option("script_location", proxy.store.migrations.__path__[0])
    made = engine_of(postgres)
    with made.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    made.dispose()
    return postgres


def test_migrations_make_the_tables_that_the_code_knows(migrated: PostgresDatabase) -> None:
    made = engine_of(migrated)
    with made.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, [tables.metadata, metadata]) == []
        for table in metadata.sorted_tables:
            columns = inspect(connection).get_columns(table.name)
            assert {column["type"].collation for column in columns if hasattr(column["type"], "collation")} <= {"C"}
    made.dispose()


def test_a_record_has_the_columns_of_the_ledger_file() -> None:
    assert {column.name for column in usage_records.columns} == {*COLUMNS, "seq", "file_id"}
    assert [column.name for column in usage_hourly.columns] == [*HOURLY_ORDER, *HOURLY_SUMS]


def test_a_record_is_neither_changed_nor_deleted(migrated: PostgresDatabase) -> None:
    with migrated.client() as client:
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
