"""Commands where the ledger is in PostgreSQL: they read what was shipped, and say what of this node isn't yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.billing.ledger_reading import ledger_files
from proxy.store.database import Database
from proxy.tenants import audit, projects
from tests.billing.sample import NOON, sample
from tests.billing.shipped import ship_all
from tests.cli.conftest import Weighbridge
from tests.contracts.ledgers import write
from tests.postgres_servers import PASSWORD

MISSING = "records of this node aren't in PostgreSQL yet, and missing here: its calls from before 2026-11-21T12:00:05"


@pytest.fixture
def data_dir(
    weighbridge: Weighbridge, tmp_path: Path, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Of a node that has shipped a call of alice, and not yet two more."""
    monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)
    url = str(postgres_database)
    (tmp_path / "weighbridge.toml").write_text(
        f'[storage]\ndatabase_url = "{url}"\ndatabase_password_env = "DATABASE_PASSWORD"\n'
    )
    projects.create(postgres_database, "alice", NOON, actor="test")
    made = tmp_path / "weighbridge-data"
    write(made, "0", [sample("a", project="alice")])
    ship_all(postgres_database, made / "ledger" / "0.db")
    write(made, "0", [sample(name, project="alice", started_at=NOON + 5_000_000) for name in ("b", "c")])
    return made


def ship(data_dir: Path, database: Database) -> None:
    for path in ledger_files(data_dir):
        ship_all(database, path)


def told(weighbridge: Weighbridge, *arguments: str) -> tuple[Any, str]:
    """What is printed as JSON, and said on standard error."""
    result = weighbridge(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def test_a_report_is_of_what_was_shipped_and_says_up_to_when_that_is_all(
    weighbridge: Weighbridge, data_dir: Path, postgres_database: Database
) -> None:
    report, said = told(weighbridge, "usage", "report", "--json")
    assert report["total"]["calls"] == 1
    assert (report["unshipped_records"], report["shipped_until"]) == (2, "2026-11-21T12:00:05.000000Z")
    assert said.startswith(f"2 {MISSING}")
    ship(data_dir, postgres_database)
    report, said = told(weighbridge, "usage", "report", "--json")
    assert report["total"]["calls"] == 3
    assert (report["unshipped_records"], report["shipped_until"], said) == (0, None, "")


def test_a_file_that_cannot_be_read_is_told_and_the_report_stands(weighbridge: Weighbridge, data_dir: Path) -> None:
    (data_dir / "ledger" / "1.db").write_text("no database")
    report, said = told(weighbridge, "usage", "report", "--json")
    assert report["total"]["calls"] == 1
    assert (report["unshipped_records"], report["shipped_until"]) == (None, None)
    assert said.startswith("Whether this node has shipped all that it wrote isn't known: ")
    assert "1.db can't be read" in said


def test_an_export_goes_on_behind_its_cursor_as_records_are_shipped(
    weighbridge: Weighbridge, data_dir: Path, postgres_database: Database
) -> None:
    def exported() -> tuple[list[str], str]:
        result = weighbridge("usage", "export", "--cursor-file", "cursor")
        assert result.exit_code == 0, result.output
        return [json.loads(line)["record_id"] for line in result.stdout.splitlines()], result.stderr

    (ids, said) = exported()
    assert ids == ["a"]
    assert f"2 {MISSING}" in said
    ship(data_dir, postgres_database)
    (ids, said) = exported()
    assert (ids, "\n" in said.strip()) == (["b", "c"], False)
    assert exported()[0] == []


def test_an_adjustment_is_made_without_a_server_and_counts_when_it_is_shipped(
    weighbridge: Weighbridge, data_dir: Path, postgres_database: Database
) -> None:
    """Also of a call that only this node's file has."""
    asked = ("usage", "adjust", "alice", "-0.01", "--why", "torn", "--of", "b", "--id", "adj_1", "--json")
    made, _ = told(weighbridge, *asked)
    assert (made["record_id"], made["model"]) == ("adj_1", "gemini-2.5-flash-image")
    assert told(weighbridge, *asked)[0] == made
    ship(data_dir, postgres_database)
    assert told(weighbridge, *asked)[0] == made
    report, _ = told(weighbridge, "usage", "report", "--json")
    assert report["total"]["adjustments_cost_usd"] == "-0.01"
    actions = [event.action for event in audit.list_events(postgres_database, limit=9, project="alice")]
    assert actions == ["adjustment.create", "project.create"]
    refused = weighbridge("usage", "adjust", "alice", "-2", "--why", "torn", "--id", "adj_1")
    assert (refused.exit_code, "another adjustment adj_1" in refused.stderr) == (1, True)


def test_a_period_priced_anew_is_what_was_shipped_and_is_done_once(
    weighbridge: Weighbridge, data_dir: Path, postgres_database: Database
) -> None:
    with (data_dir.parent / "weighbridge.toml").open("a") as file:
        file.write('[[prices]]\nmodel = "gemini-2.5-flash-image"\ninput_text = "0.3"\noutput_image = "31"\n')
    asked = ("ledger", "rerate", "--since", "2026-11-01", "--yes", "--json")
    made, said = told(weighbridge, *asked)
    assert (made["calls"], made["written"]["adjustments"], made["unshipped_records"]) == (1, 1, 2)
    assert f"2 {MISSING}" in said
    assert told(weighbridge, *asked)[0]["written"]["adjustments"] == 0  # the adjustment isn't shipped yet
    ship(data_dir, postgres_database)
    assert told(weighbridge, *asked)[0]["written"]["adjustments"] == 2
    ship(data_dir, postgres_database)
    assert told(weighbridge, *asked)[0]["written"]["adjustments"] == 0


def test_it_is_held_against_googles_export(weighbridge: Weighbridge, data_dir: Path) -> None:
    (data_dir.parent / "usage.csv").write_text("Date,Model,Requests\n2026-11-21,gemini-2.5-flash-image,1\n")
    found, said = told(weighbridge, "usage", "reconcile", "usage.csv", "--json")
    assert [(line["ours"]["requests"], line["differs"]) for line in found["lines"]] == [(1, [])]
    assert (found["unshipped_records"], f"2 {MISSING}" in said) == (2, True)
