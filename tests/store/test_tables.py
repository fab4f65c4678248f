"""The tables as the code knows them are the tables that migrations make."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import proxy.store.migrations
from proxy.store.database import open_database
from proxy.store.tables import HEAD, metadata


def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    with open_database(tmp_path).reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_code_is_written_for_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", proxy.store.migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
