"""The tables as the code knows them are the tables that migrations make."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import proxy.store.migrations
from proxy.config.schema import Storage
from proxy.store.database import Database, StoreError, backend_of, open_database, upgrade
from proxy.store.tables import HEAD, metadata


def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    with open_database(Storage(data_dir=tmp_path)).reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_code_is_written_for_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", proxy.store.migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def database_of_version(version: str, storage: Storage) -> Database:
    """As a program of that version has left it."""
    backend = backend_of(storage)
    backend.make()
    config = Config()
    config.set_main_option("script_location", proxy.store.migrations.__path__[0])
    database = Database(backend)
    with database.noting() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    return database


def rows(connection: Connection, query: str) -> list[dict[str, object]]:
    return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def test_projects_and_keys_of_the_first_version_are_kept_and_may_do_what_they_could(tmp_path: Path) -> None:
    storage = Storage(data_dir=tmp_path)
    database = database_of_version("0001", storage)
    with database.writing() as connection:
        for statement in (
            "INSERT INTO projects VALUES ('alice', 1, NULL), ('bob', 2, 3)",
            "INSERT INTO keys VALUES ('key_1', 'alice', 'notebook', x'01', 'wb_a…b', 4, NULL)",
            "INSERT INTO keys VALUES ('key_2', 'bob', 'Zoë', x'02', 'wb_c…d', 5, 6)",
        ):
            connection.exec_driver_sql(statement)

    assert upgrade(storage).before == "0001"

    open_to_all = {"limits": "[]", "models": '["*"]'}
    new = {**open_to_all, "addresses": "[]", "expires_at": None, "rotated_from": None}
    with database.reading() as connection:
        assert rows(connection, "SELECT * FROM projects ORDER BY name") == [
            {"name": "alice", "created_at": 1, "disabled_at": None, **open_to_all},
            {"name": "bob", "created_at": 2, "disabled_at": 3, **open_to_all},
        ]
        assert rows(connection, "SELECT * FROM keys ORDER BY id") == [
            {"id": "key_1", "project": "alice", "name": "notebook", "digest": b"\1", "masked": "wb_a…b"}
            | {"created_at": 4, "revoked_at": None, **new},
            {"id": "key_2", "project": "bob", "name": "Zoë", "digest": b"\2", "masked": "wb_c…d"}
            | {"created_at": 5, "revoked_at": 6, **new},
        ]
        assert rows(connection, "SELECT number FROM revision") == [{"number": 1}]
        assert rows(connection, "SELECT * FROM key_uses") == rows(connection, "SELECT * FROM audit_events") == []
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_upgrade_that_is_cut_short_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    """And the next one finishes it."""
    storage = Storage(data_dir=tmp_path)
    database = database_of_version("0001", storage)
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE audit_events (id INTEGER)")  # the migration's last but one step fails
    before = Path(str(database)).read_bytes()
    with pytest.raises(StoreError, match="audit_events already exists"):
        upgrade(storage)
    assert Path(str(database)).read_bytes() == before
    with database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE audit_events")
    assert upgrade(storage).before == "0001"
    assert upgrade(storage).before == HEAD


def test_a_database_of_the_second_version_gets_the_table_of_events(tmp_path: Path) -> None:
    storage = Storage(data_dir=tmp_path)
    database = database_of_version("0002", storage)
    assert upgrade(storage).before == "0002"
    with database.reading() as connection:
        assert rows(connection, "SELECT * FROM events") == []
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_audit_events_of_the_third_version_are_kept_and_are_about_no_upstream(tmp_path: Path) -> None:
    storage = Storage(data_dir=tmp_path)
    database = database_of_version("0003", storage)
    event = {"id": 1, "at": 5, "actor": "cli:ann", "action": "project.create", "project": "alice", "key_id": None}
    with database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO audit_events VALUES (1, 5, 'cli:ann', 'project.create', 'alice', NULL, '{}')"
        )
    assert upgrade(storage).before == "0003"
    with database.reading() as connection:
        assert rows(connection, "SELECT * FROM audit_events") == [{**event, "changes": "{}", "upstream": None}]
        assert rows(connection, "SELECT * FROM disabled_upstreams") == []
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
