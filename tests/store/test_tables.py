"""The tables as the code knows them are the tables that migrations make, in each database; what stood there stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import proxy.store.migrations
from proxy.billing import ledger_tables
from proxy.config.schema import Storage
from proxy.store.database import Database, StoreError, backend_of, open_database, upgrade
from proxy.store.schema import schema_support
from proxy.store.tables import HEAD, OLDEST_PROGRAM, metadata


def differences(connection: Connection) -> list[object]:
    """Between the tables that are there and those that the code knows. The ledger's are in PostgreSQL alone."""
    ours = [metadata, ledger_tables.metadata] if connection.dialect.name == "postgresql" else metadata
    options = {"include_name": lambda name, kind, parents: name != schema_support.name}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), ours))


def test_migrations_make_the_tables_that_the_code_knows(each_database: Database) -> None:
    with each_database.reading() as connection:
        assert differences(connection) == []


def test_the_code_is_written_for_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", proxy.store.migrations.__path__[0])
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    numbers = sorted(script.revision for script in scripts.walk_revisions())
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    assert OLDEST_PROGRAM in numbers


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
    return [dict(row) for row in connection.execute(text(query)).mappings()]


def test_projects_and_keys_of_the_first_version_are_kept_and_may_do_what_they_could(each_storage: Storage) -> None:
    database = database_of_version("0001", each_storage)
    with database.writing() as connection:
        connection.execute(text("INSERT INTO projects VALUES ('alice', 1, NULL), ('bob', 2, 3)"))
        insert = text("INSERT INTO keys VALUES (:id, :project, :name, :digest, :masked, :at, :revoked)")
        for values in (
            ("key_1", "alice", "notebook", b"\1", "wb_a…b", 4, None),
            ("key_2", "bob", "Zoë", b"\2", "wb_c…d", 5, 6),
        ):
            names = ("id", "project", "name", "digest", "masked", "at", "revoked")
            connection.execute(insert, dict(zip(names, values, strict=True)))

    assert upgrade(each_storage).before == "0001"

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
        assert differences(connection) == []


def test_an_upgrade_that_is_cut_short_leaves_the_database_as_it_was(each_storage: Storage) -> None:
    """And the next one finishes it."""
    database = database_of_version("0001", each_storage)
    with database.writing() as connection:
        # The second migration's last but one step fails.
        connection.execute(text("CREATE TABLE audit_events (id INTEGER)"))
    path = None if database.postgresql else Path(str(database))
    before = path.read_bytes() if path else b""
    with pytest.raises(StoreError, match=r'audit_events"? already exists'):
        upgrade(each_storage)
    assert not path or path.read_bytes() == before
    with database.writing() as connection:
        assert rows(connection, "SELECT version_num FROM alembic_version") == [{"version_num": "0001"}]
        connection.execute(text("DROP TABLE audit_events"))
    assert upgrade(each_storage).before == "0001"
    assert upgrade(each_storage).before == HEAD


def test_a_database_of_the_second_version_gets_the_table_of_events(each_storage: Storage) -> None:
    database = database_of_version("0002", each_storage)
    assert upgrade(each_storage).before == "0002"
    with database.reading() as connection:
        assert rows(connection, "SELECT * FROM events") == []
        assert differences(connection) == []


def test_audit_events_of_the_third_version_are_kept_and_are_about_no_upstream(each_storage: Storage) -> None:
    database = database_of_version("0003", each_storage)
    event = {"id": 1, "at": 5, "actor": "cli:ann", "action": "project.create", "project": "alice", "key_id": None}
    with database.writing() as connection:
        values = "(1, 5, 'cli:ann', 'project.create', 'alice', NULL, '{}')"
        connection.exec_driver_sql(f"INSERT INTO audit_events VALUES {values}")
    assert upgrade(each_storage).before == "0003"
    with open_database(each_storage).reading() as connection:
        assert rows(connection, "SELECT * FROM audit_events") == [{**event, "changes": "{}", "upstream": None}]
        assert rows(connection, "SELECT * FROM disabled_upstreams") == []
        assert differences(connection) == []
