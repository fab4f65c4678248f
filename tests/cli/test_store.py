"""`weighbridge store move`, as typed: what it refuses, what it would do, and what it says at its end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.billing.ledger_file import lock_ledger
from proxy.cli import store
from proxy.store import copying
from proxy.store.database import StoreError, open_database
from proxy.tenants import projects
from tests.billing.sample import NOON
from tests.cli.conftest import Weighbridge
from tests.journeys.outgrown import fill
from tests.postgres_servers import PASSWORD, PostgresDatabase, PostgresServer

Configure = Callable[[str], None]
PASSWORD_OF = 'database_password_env = "DATABASE_PASSWORD"\n'


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """That of a configuration which says nothing."""
    fill(tmp_path / "weighbridge-data", 20)
    return tmp_path / "weighbridge-data"


@pytest.fixture
def postgres(
    postgres_server: PostgresServer, postgres_schema: str, monkeypatch: pytest.MonkeyPatch, weighbridge: Weighbridge
) -> PostgresDatabase:
    """A PostgreSQL to move to, whose password libpq finds."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return postgres_server.database(postgres_schema)


def configure(text: str) -> None:
    Path("weighbridge.toml").write_text(f"[storage]\n{text}")


def refused(weighbridge: Weighbridge, *arguments: str) -> str:
    """What it says for that on standard error; it prints nothing else."""
    result = weighbridge("store", "move", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    return result.stderr


def test_what_would_be_moved_is_shown_and_nothing_is_written(
    weighbridge: Weighbridge, data_dir: Path, postgres: PostgresDatabase
) -> None:
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    result = weighbridge("store", "move", "--to", postgres.url, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert f"From weighbridge-data to {postgres.url} would be moved:" in result.stdout
    cells = [line.split() for line in result.stdout.splitlines()]
    assert ["projects", "2"] in cells
    assert ["usage_records", "20"] in cells
    assert any(row[1:2] == ["cost_usd"] and row[2].startswith("$") for row in cells)
    assert {path: path.read_bytes() for path in before} == before
    with open_database(postgres.storage()).reading() as connection:
        assert all(connection.execute(table.select()).first() is None for table in copying.TABLES)


def test_it_is_shown_as_json(weighbridge: Weighbridge, data_dir: Path, postgres: PostgresDatabase) -> None:
    told = json.loads(weighbridge("store", "move", "--to", postgres.url, "--dry-run", "--json").stdout)
    assert (told["from"], told["to"], told["moved_before"]) == ("weighbridge-data", postgres.url, False)
    assert {one["what"]: one["source"] for one in told["held"]}["keys"] == 2
    assert all(set(month) == {"month", "source", "target", "equal"} for month in told["months"])


def test_without_a_target_it_says_where_to_write_one(weighbridge: Weighbridge, data_dir: Path) -> None:
    assert "where to? Set storage.database_url in weighbridge.toml, or give --to" in refused(weighbridge)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("./another-folder", "--to must begin with postgresql://"),
        ("weighbridge-data", "--to must begin with postgresql://"),
        ("postgresql://me:secret-of-mine@host/db", "--to must not hold a password"),
    ],
)
def test_a_target_that_is_no_postgresql_is_refused(
    weighbridge: Weighbridge, data_dir: Path, url: str, says: str
) -> None:
    said = refused(weighbridge, "--to", url)
    assert says in said
    assert "secret-of-mine" not in said


def test_nothing_is_moved_out_of_postgresql(weighbridge: Weighbridge, postgres: PostgresDatabase) -> None:
    assert "nothing is moved out of PostgreSQL" in refused(weighbridge, "--from", postgres.url, "--to", postgres.url)


def test_a_folder_without_a_database_is_refused_and_stays_empty(
    weighbridge: Weighbridge, tmp_path: Path, postgres: PostgresDatabase
) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no weighbridge.db in empty" in refused(weighbridge, "--from", "empty", "--to", postgres.url)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_target_without_this_versions_tables_is_refused(
    weighbridge: Weighbridge, data_dir: Path, postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    said = refused(weighbridge, "--to", postgres_server.database().url)
    assert "run `weighbridge db upgrade`" in said


def test_while_a_server_runs_on_the_folder_it_is_refused(
    weighbridge: Weighbridge, data_dir: Path, postgres: PostgresDatabase
) -> None:
    lock = lock_ledger(data_dir)
    try:
        said = refused(weighbridge, "--to", postgres.url)
    finally:
        os.close(lock)
    assert f"process {os.getpid()}: stop the server first" in said
    assert said.count("\n") == 1


def test_a_target_of_others_is_refused(weighbridge: Weighbridge, data_dir: Path, postgres: PostgresDatabase) -> None:
    projects.create(open_database(postgres.storage()), "others", NOON, actor="test")
    for arguments in ((), ("--dry-run",)):
        said = refused(weighbridge, "--to", postgres.url, *arguments)
        assert "it isn't empty (it has projects, audit_events), and lacks 2 of 2 projects" in said


def test_the_configurations_password_goes_to_no_other_postgresql(
    weighbridge: Weighbridge, data_dir: Path, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)
    configure(f'database_url = "{postgres.url}"\n{PASSWORD_OF}')
    assert weighbridge("store", "move", "--dry-run").exit_code == 0
    assert weighbridge("store", "move", "--dry-run", "--to", postgres.url).exit_code == 0
    other = postgres.url.replace("127.0.0.1", "localhost")
    assert "it asks for a password" in refused(weighbridge, "--dry-run", "--to", other)


def test_what_ends_it_in_the_midst_is_told_with_what_to_do() -> None:
    with pytest.raises(Exception, match=r"it is away\nWhat is moved by now stays: run this again"), store._goes_on():
        raise StoreError("it is away")
