"""Files of older versions are served as they are; those of newer ones are refused by whatever opens them, unchanged.

The older ones are dumps of what those versions wrote (tests/frozen): nobody ever changes these.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from proxy.billing import reports
from proxy.billing.ledger_schema import SCHEMA_VERSION
from proxy.cli.main import app
from proxy.store.tables import HEAD
from tests.clock import Clock
from tests.journeys.watching import TEXT, body, open_leases
from tests.postgres_servers import PASSWORD, PostgresDatabase
from tests.stand import Weighbridge

ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "tests" / "frozen"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY, REVOKED = "wb_0123456789ABCDEFGHIJKLMNOPQRSTUV1ggZdL", "wb_789ABCDEFGHIJKLMNOPQRSTUVWXYZabc1OQ3aX"
"""Those of weighbridge-0001.sql, which has only their digests."""
YESTERDAY, MORNING, TEXT_CALL, ADJUSTMENT, IN_FLIGHT = "yesterday", "morning", "text", "adj_1", "in flight"


def thaw(dump: str, path: Path) -> None:
    """Makes a file as that version left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FROZEN / dump).read_text())
        if path.parent.name == "ledger":
            connection.execute("PRAGMA journal_mode=WAL")


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def call(stand: Weighbridge, key: str) -> httpx2.Response:
    headers = {"x-goog-api-key": key}
    return httpx2.post(f"{stand.base_url}{TEXT}generateContent", json=body("hello"), headers=headers)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data folder of the first version: five calls at noon, one of them in flight when the server died."""
    thaw("ledger-1.sql", tmp_path / "data" / "ledger" / "0.db")
    thaw("weighbridge-0001.sql", tmp_path / "data" / "weighbridge.db")
    return tmp_path


def test_files_of_the_first_version_are_served_with_all_that_is_in_them(
    old: Path, upstream: str, wall_clock: Clock
) -> None:
    """Records stand as they stood, the call in flight is closed out, keys work or don't as before; limits that are new
    know what was used before they were set."""
    wall_clock.set(NOON)
    ledger, database = old / "data/ledger/0.db", old / "data/weighbridge.db"
    recorded, keys = rows(ledger, "usage_records"), rows(database, "keys")
    stand = Weighbridge(old, upstream, {"limits": {"timezone": "UTC"}}, environment=wall_clock.environment)
    with closing(stand):
        stand.run("project", "update", "acme", "--limit=rpd=5", "--limit=rpm=100", "--limit=concurrency=9")
        stand.start()
        assert rows(database, "alembic_version") == [{"version_num": HEAD}]
        assert [{name: row[name] for name in keys[0]} for row in rows(database, "keys")] == keys
        (file,) = rows(ledger, "file")
        assert (file["file_id"], file["schema_version"]) == ("000102030405060708090a0b0c0d0e0f", SCHEMA_VERSION)
        assert (file["removed_through"], file["removed_before"]) == (0, 0)
        before = rows(ledger, "usage_records")
        assert [{name: row[name] for name in recorded[0]} for row in before[:4]] == recorded
        assert [(row["record_id"], row["outcome"], row["cost_usd"]) for row in before[4:]] == [
            (IN_FLIGHT, "unsettled", 33_602_100)
        ]
        told = json.loads(stand.run("limits", "show", "acme", "--json"))
        assert {limit["kind"]: limit["used"] for limit in told["limits"]} == {"rpd": 3, "rpm": 2, "concurrency": 0}
        assert [call(stand, key).status_code for key in (KEY, REVOKED, KEY, KEY)] == [200, 400, 200, 429]
        assert stand.stop() == 0

        stand.start()  # and again
        assert open_leases(stand.data_dir) == 0
        assert [record.record_id for record in stand.records()][:5] == [row["record_id"] for row in before]
        assert [record.outcome for record in stand.records()][5:] == ["ok", "ok"]
        total = json.loads(stand.run("usage", "report", "--json"))["total"]
        assert total["calls"] == 6
        assert json.loads(stand.run("ledger", "verify", "--json"))["files"][0]["ok"]


def test_a_ledger_of_the_first_version_is_read_before_a_server_has_opened_it(old: Path) -> None:
    """It stays as it is."""
    path = old / "data/ledger/0.db"
    before = path.read_bytes()
    assert [record.record_id for record in reports.export([path])] == [YESTERDAY, MORNING, TEXT_CALL, ADJUSTMENT]
    total = reports.total(reports.report([path], ["day"]))
    assert (total.calls, total.unpriced_calls, total.cost_usd) == (3, 1, 63_602_100)
    assert [found.record_id for found in reports.of_request([path], "request-morning", "acme", 9)] == [MORNING]
    run(old, "ledger verify", expected=0)
    assert path.read_bytes() == before


LEDGER, DATABASE = "ledger", "database"
COMMANDS = {
    "project create": ("NEW", DATABASE),
    "project update": ("acme --rpm 1", DATABASE),
    "project credit": ("acme 25", DATABASE),
    "project list": ("", DATABASE),
    "project show": ("acme", DATABASE),
    "project disable": ("acme", DATABASE),
    "project enable": ("gone", DATABASE),
    "key create": ("acme", DATABASE),
    "key list": ("", DATABASE),
    "key rotate": ("key_WXYZabcdefghijkl", DATABASE),
    "key revoke": ("key_WXYZabcdefghijkl", DATABASE),
    "limits show": ("acme", LEDGER, DATABASE),
    "upstreams list": ("", DATABASE),
    "upstreams disable": ("google", DATABASE),
    "upstreams enable": ("google", DATABASE),
    "audit list": ("", DATABASE),
    "events list": ("", DATABASE),
    "usage report": ("--by key", LEDGER, DATABASE),
    "usage export": ("", LEDGER),
    "usage adjust": ("acme 1 --why reason", LEDGER, DATABASE),
    "usage reconcile": ("FOLDER/google.csv", LEDGER),
    "ledger rerate": ("--since 2026-11-01 --yes", LEDGER),
    "ledger verify": ("", LEDGER),
    "prices update": ("FOLDER/book.toml --yes", DATABASE),
    "doctor": ("", LEDGER, DATABASE),
    "db upgrade": ("", DATABASE),
    "store backup": ("FOLDER/copy", LEDGER),
}
"""Each command, as it may be typed, and which of the two files it opens."""
INTO_POSTGRESQL = {"ledger ship": ("FOLDER/data", LEDGER), "store move": ("", LEDGER, DATABASE)}
"""Likewise, where there is a PostgreSQL."""
OPEN_NONE = {"image", "emulator", "events test", "prices list", "prices show", "config check", "config show"}
START_A_SERVER = {"serve", "demo"}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield " ".join(path)
        return
    for name, sub in command.commands.items():
        yield from commands(sub, (*path, name))


def run(folder: Path, command: str, *, expected: int = 1, storage: str = "") -> str:
    """Runs a command in this process on the data of a folder; all that it says."""
    (folder / "w.toml").write_text(f'[storage]\ndata_dir = "{folder}/data"\n{storage}')
    done = CliRunner().invoke(app, [*command.split(), "--config", str(folder / "w.toml")], prog_name="weighbridge")
    assert done.exit_code == expected, (command, done.output)
    return done.output


def test_each_command_either_opens_no_file_or_is_tried_on_a_newer_one() -> None:
    assert set(commands(get_command(app))) == COMMANDS.keys() | INTO_POSTGRESQL.keys() | OPEN_NONE | START_A_SERVER


NEWER = {
    LEDGER: ("ledger/0.db", "UPDATE file SET schema_version = 99"),
    DATABASE: ("weighbridge.db", "UPDATE alembic_version SET version_num = '9999'"),
}
"""The file, and how one is made newer."""


@pytest.fixture
def newer(old: Path, request: pytest.FixtureRequest) -> Path:
    """A data folder of which one file, the one that the test names, was written by a version to come."""
    file, statement = NEWER[request.param]
    path = old / "data" / file
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    (old / "google.csv").write_text("Date,Model,Cost ($)\n2026-11-21,gemini-2.5-flash-image,1\n")
    book = (ROOT / "proxy/billing/price_book.toml").read_text()
    (old / "book.toml").write_text(re.sub("(?m)^version = .*", "version = 2031-01-01", book))
    return path


@pytest.mark.parametrize(
    ("newer", "command"),
    [(file, name) for name, (_, *files) in COMMANDS.items() for file in files],
    indirect=["newer"],
)
def test_a_command_refuses_a_newer_file_with_what_to_do_and_changes_nothing(
    newer: Path, command: str, tmp_path: Path
) -> None:
    refuses(newer, tmp_path, f"{command} {COMMANDS[command][0]}")
    assert not (tmp_path / "data/prices.toml").exists()


@pytest.mark.parametrize(
    ("newer", "command"),
    [(file, name) for name, (_, *files) in INTO_POSTGRESQL.items() for file in files],
    indirect=["newer"],
)
def test_a_newer_file_is_not_moved_to_postgresql(
    newer: Path, command: str, ready_postgres: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)
    storage = f'database_url = "{ready_postgres.url}"\ndatabase_password_env = "DATABASE_PASSWORD"\n'
    refuses(newer, tmp_path, f"{command} {INTO_POSTGRESQL[command][0]}", storage)


def refuses(newer: Path, folder: Path, command: str, storage: str = "") -> None:
    before = newer.read_bytes()
    told = run(folder, command.replace("FOLDER", str(folder)), storage=storage)
    assert "newer version" in told
    assert re.search("Run the newer version|run the newer version|upgrade this program", told)
    assert newer.name in told
    assert newer.read_bytes() == before


@pytest.mark.parametrize("newer", NEWER, indirect=True)
def test_a_server_refuses_a_newer_file_with_what_to_do_and_changes_nothing(newer: Path, tmp_path: Path) -> None:
    before = newer.read_bytes()
    stand = Weighbridge(tmp_path, "http://127.0.0.1:1")
    stand.spawn()
    assert stand.wait() == 1
    assert re.search("newer version.*(Run the newer version|upgrade this program)", stand.log())
    assert newer.read_bytes() == before
