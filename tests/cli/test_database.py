"""`weighbridge db`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.store.tables import HEAD
from tests.cli.conftest import Weighbridge
from tests.postgres_servers import PASSWORD, PostgresDatabase


def test_the_database_is_made_and_then_up_to_date(weighbridge: Weighbridge, tmp_path: Path) -> None:
    first = weighbridge("db", "upgrade")
    assert first.exit_code == 0
    assert "it is new" in first.stdout
    assert (tmp_path / "weighbridge-data" / "weighbridge.db").is_file()
    second = weighbridge("db", "upgrade")
    assert second.exit_code == 0
    assert "up to date" in second.stdout
    told = json.loads(weighbridge("db", "upgrade", "--json").stdout)
    assert told["from"] == told["to"]


def test_what_is_no_database_is_told_in_a_sentence(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "weighbridge-data").mkdir()
    (tmp_path / "weighbridge-data" / "weighbridge.db").write_text("something else" * 1000)
    for arguments in (("db", "upgrade"), ("project", "list")):
        result = weighbridge(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert "file is not a database" in result.stderr


@pytest.fixture
def configured(postgres: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration names a PostgreSQL that is empty yet."""
    monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)
    (tmp_path / "weighbridge.toml").write_text(
        f'[storage]\ndatabase_url = "{postgres.url}"\ndatabase_password_env = "DATABASE_PASSWORD"\n'
    )


@pytest.mark.usefixtures("configured")
def test_postgresql_is_made_by_this_command_alone_and_it_says_what_it_did(weighbridge: Weighbridge) -> None:
    refused = weighbridge("project", "list")
    assert (refused.exit_code, "run `weighbridge db upgrade`" in refused.stderr) == (1, True)
    first = weighbridge("db", "upgrade").stdout.splitlines()
    assert [line[:4] for line in first[:-1]] == [f"{number:04}" for number in range(1, int(HEAD) + 1)]
    assert first[-1].endswith(f"is now at schema {HEAD} (it is new).")
    assert f"up to date (schema {HEAD})" in weighbridge("db", "upgrade").stdout
    assert weighbridge("project", "create", "alice").exit_code == 0
    assert "alice" in weighbridge("project", "list").stdout


@pytest.mark.usefixtures("configured")
def test_the_password_is_shown_by_no_command(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSyNotAKey")
    weighbridge("db", "upgrade")
    for arguments in (("config", "check"), ("config", "show"), ("config", "show", "--json"), ("project", "list")):
        said = weighbridge(*arguments)
        assert said.exit_code == 0
        assert PASSWORD not in said.output
    assert "database_password: (set, from env DATABASE_PASSWORD)" in weighbridge("config", "show").stdout
    monkeypatch.setenv("DATABASE_PASSWORD", "geheim")
    said = weighbridge("project", "list")
    assert (said.exit_code, "geheim" in said.output) == (1, False)
    assert "password authentication failed" in said.stderr
    monkeypatch.delenv("DATABASE_PASSWORD")
    assert "DATABASE_PASSWORD holds no password here" in weighbridge("project", "list").stderr
