"""Who may work with a schema, and how it is brought to this program's version while others work with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, text

from proxy.config.schema import Storage
from proxy.store import schema
from proxy.store.database import Database, StoreError, backend_of, open_database, upgrade
from proxy.store.schema import schema_support
from proxy.store.tables import HEAD, OLDEST_PROGRAM
from tests.postgres_servers import PASSWORD, PostgresDatabase
from tests.store.test_tables import database_of_version, differences

NEXT = f"{int(HEAD) + 1:04}"


def of_a_newer_program(database: Database, oldest_program: str | None) -> None:
    with database.noting() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEXT}'"))
        connection.execute(schema_support.delete())
        if oldest_program:
            connection.execute(schema_support.insert().values(id=1, oldest_program=oldest_program))


def test_postgresql_is_upgraded_by_the_command_alone(postgres: PostgresDatabase) -> None:
    """At a time that the operator chooses: a program that finds an older schema says what to do, and changes none."""
    with pytest.raises(StoreError, match=r"has no tables of Weighbridge yet: run `weighbridge db upgrade`"):
        open_database(postgres.storage())
    database_of_version("0001", postgres.storage())
    with pytest.raises(StoreError, match=rf"has schema 0001, this program needs {HEAD}: run `weighbridge db upgrade`"):
        open_database(postgres.storage())
    done = upgrade(postgres.storage())
    assert (done.before, done.after) == ("0001", HEAD)
    assert [step[:4] for step in done.steps] == [f"{number:04}" for number in range(2, int(HEAD) + 1)]
    assert open_database(postgres.storage()).postgresql


def test_a_schema_says_which_programs_still_work_with_it(postgres: PostgresDatabase) -> None:
    """Nodes of the older version go on while others are upgraded, and may be started again."""
    upgrade(postgres.storage())
    database = open_database(postgres.storage())
    with database.reading() as connection:
        assert connection.execute(select(schema_support.c.oldest_program)).all() == [(OLDEST_PROGRAM,)]
    of_a_newer_program(database, HEAD)
    assert open_database(postgres.storage())
    assert upgrade(postgres.storage()) == (NEXT, NEXT, ())
    for oldest in (NEXT, None):
        of_a_newer_program(database, oldest)
        with pytest.raises(StoreError, match=rf"its schema is {NEXT}, this program's {HEAD}\): upgrade this program"):
            open_database(postgres.storage())
        with pytest.raises(StoreError, match="written by a newer version"):
            upgrade(postgres.storage())


def test_of_nodes_that_upgrade_at_once_one_does_it_and_the_others_find_it_done(
    postgres: PostgresDatabase, pgbouncer: int, tmp_path: Path
) -> None:
    """Also where some are behind a pgbouncer that gives each transaction another connection."""
    behind = replace(postgres, port=pgbouncer)
    started = [
        _upgrading(asked, tmp_path / f"{number}.toml") for number, asked in enumerate([postgres, behind, behind])
    ]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
    assert [(errors, code) for _, errors, code in ended] == [("", 0)] * 3
    told = [json.loads(out) for out, _, _ in ended]
    assert sorted(len(each["steps"]) for each in told) == [0, 0, int(HEAD)]
    assert {each["to"] for each in told} == {HEAD}
    with open_database(behind.storage()).reading() as connection:
        assert differences(connection) == []


def _upgrading(database: PostgresDatabase, file: Path) -> subprocess.Popen[str]:
    file.write_text(f'[storage]\ndatabase_url = "{database.url}"\ndatabase_password_env = "DATABASE_PASSWORD"\n')
    command = [sys.executable, "-m", "proxy", "db", "upgrade", "--json", "--config", str(file)]
    environment = {**os.environ, "DATABASE_PASSWORD": PASSWORD}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def held(postgres: PostgresDatabase, at_end: ExitStack) -> Callable[[], None]:
    """A transaction of somebody's that has read `projects`, in a schema of the first version; gives what ends it."""
    database_of_version("0001", postgres.storage())
    other = at_end.enter_context(postgres.client())
    other.execute("BEGIN")
    other.execute("SELECT * FROM projects")
    return other.rollback


def test_an_upgrade_that_has_to_wait_lets_others_by_and_tries_again(
    postgres: PostgresDatabase, held: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a table has all others wait behind him: so it doesn't for long."""
    monkeypatch.setattr(schema, "LOCK_S", 0.1)
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        with postgres.client() as another:
            assert another.execute("SELECT count(*) FROM projects").fetchone() == (0,)
        if len(pauses) == 2:
            held()

    assert schema.upgrade(backend_of(postgres.storage()), pause).before == "0001"
    assert len(pauses) == 2


def test_an_upgrade_that_never_gets_a_table_gives_up_and_says_so(
    postgres: PostgresDatabase, held: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_S", 0.1)
    with pytest.raises(StoreError, match="lock timeout; another transaction holds what this one wants"):
        schema.upgrade(backend_of(postgres.storage()), lambda seconds: None)
    held()
    with postgres.client() as client:
        assert client.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    assert upgrade(postgres.storage()).before == "0001"


def test_a_user_who_may_not_make_tables_is_told_what_to_grant(postgres: PostgresDatabase) -> None:
    with postgres.client("postgres") as superuser:
        superuser.execute(f'ALTER DATABASE "{postgres.name}" OWNER TO postgres')
        superuser.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(StoreError, match=r"permission denied for schema public; grant its user the rights that docs"):
        upgrade(postgres.storage())


def test_a_file_that_is_newer_says_nothing_of_the_kind(tmp_path: Path) -> None:
    """SQLite's is of one program: what is newer is refused, and left as it is."""
    storage = Storage(data_dir=tmp_path)
    with open_database(storage).noting() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEXT}'"))
    with pytest.raises(StoreError, match="or restore the copy of the database made before the upgrade"):
        open_database(storage)
