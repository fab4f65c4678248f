"""`weighbridge ledger ship`, as typed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from proxy.billing.ledger_file import lock_ledger
from proxy.store.database import Database, open_database
from tests.billing.sample import lease
from tests.billing.shipped import assert_sums_are_those_of_the_records, calls, put, records_in, records_of, rows
from tests.cli.conftest import Weighbridge
from tests.postgres_servers import PASSWORD, PostgresServer


@pytest.fixture
def database(
    postgres_server: PostgresServer, postgres_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Database:
    """The database that weighbridge.toml names."""
    made = postgres_server.database(postgres_schema)
    (tmp_path / "weighbridge.toml").write_text(
        f'[storage]\ndatabase_url = "{made.url}"\ndatabase_password_env = "DATABASE_PASSWORD"\n'
    )
    monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)
    return open_database(made.storage())


def test_a_dead_nodes_disk_is_closed_out_and_shipped_and_a_second_time_changes_nothing(
    weighbridge: Weighbridge, tmp_path: Path, database: Database
) -> None:
    """While a server of this configuration runs on its own folder."""
    lock = lock_ledger(tmp_path / "weighbridge-data")
    first = put(tmp_path / "dead", *calls(range(5)), leases=[lease("under-way")])
    second = put(tmp_path / "dead", *calls(range(3), "more"), slot="1")
    result = weighbridge("ledger", "ship", "dead")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "dead/ledger/0.db: PostgreSQL has everything up to number 6",
            "  1 call was open when its server died: written down as unsettled",
            "dead/ledger/1.db: PostgreSQL has everything up to number 3",
        ],
    )
    assert "ledger_closed_out" in result.stderr
    os.close(lock)
    there = records_in(database)
    assert there == sorted([*records_of(first), *records_of(second)], key=lambda row: row[2])
    assert_sums_are_those_of_the_records(database)
    assert rows(database, "SELECT DISTINCT seen_at FROM shipped") == [(0,)]

    told = json.loads(weighbridge("ledger", "ship", "dead", "--json").stdout)["files"]
    assert [(one["ok"], one["shipped_through"], one["unshipped"], one["closed_out"]) for one in told] == [
        (True, 6, 0, 0),
        (True, 3, 0, 0),
    ]
    assert records_in(database) == there

    verified = weighbridge("ledger", "verify", "--data-dir", "dead")
    assert "  PostgreSQL has everything up to number 6" in verified.stdout.splitlines()


def test_a_folder_on_which_a_server_runs_is_refused(
    weighbridge: Weighbridge, tmp_path: Path, database: Database
) -> None:
    put(tmp_path / "live", *calls(range(2)), leases=[lease("under-way")])
    lock = lock_ledger(tmp_path / "live")
    result = weighbridge("ledger", "ship", "live")
    os.close(lock)
    assert result.exit_code == 1
    assert "ships it by itself" in result.stderr
    assert records_in(database) == []


@pytest.mark.parametrize(("folder", "why"), [("empty", "there is no ledger in empty"), ("gone", "no ledger in gone")])
def test_a_folder_without_a_ledger_is_told(
    weighbridge: Weighbridge, tmp_path: Path, database: Database, folder: str, why: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = weighbridge("ledger", "ship", folder)
    assert result.exit_code == 1
    assert why in result.stderr


def test_without_postgresql_it_says_so(weighbridge: Weighbridge, tmp_path: Path) -> None:
    put(tmp_path / "dead", *calls(range(2)))
    result = weighbridge("ledger", "ship", "dead")
    assert result.exit_code == 1
    assert "storage.database_url" in result.stderr


def test_what_postgresql_lacks_of_what_was_shipped_is_a_finding(
    weighbridge: Weighbridge, tmp_path: Path, database: Database
) -> None:
    put(tmp_path / "dead", *calls(range(5)))
    weighbridge("ledger", "ship", "dead")
    with database.noting() as connection:
        connection.exec_driver_sql("DROP TABLE usage_records_2026_11")
    for command in (["ship", "dead"], ["verify", "--data-dir", "dead"]):
        result = weighbridge("ledger", *command)
        assert result.exit_code == 1
        assert "PostgreSQL has 0 that cost 0 USD; here are 5" in result.stdout
