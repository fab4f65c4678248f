"""The admin API and its commands, on real processes: with a server and without one, after a kill, and with two."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from proxy.billing import reports
from proxy.billing.ledger_reading import ledger_files
from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import projects
from tests.journeys.watching import until
from tests.stand import Weighbridge, weighbridge


@pytest.fixture
def server(upstream: str, tmp_path: Path) -> Iterator[Weighbridge]:
    """A Weighbridge with the project alice, for one test alone."""
    with weighbridge(tmp_path, upstream) as running:
        running.key()
        yield running


def adjust(server: Weighbridge, usd: str, *more: str) -> str:
    """The id of the adjustment made."""
    told = json.loads(server.run("usage", "adjust", "alice", usd, "--why", "torn", "--json", *more))
    assert told["cost_usd"] == usd
    return str(told["record_id"])


def failing(server: Weighbridge, *arguments: str) -> str:
    """What a command says that fails."""
    process = server.popen("proxy", *arguments)
    assert process.wait(30) == 1
    assert process.stdout is not None
    assert process.stdout.read() == ""
    process.stdout.close()
    return [line for line in server.log().splitlines() if line.startswith("error: ")][-1]


def post(server: Weighbridge, token: str, **body: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx2.post(f"{server.admin_url}/admin/v1/adjustments", json=body, headers=headers)


def test_the_token_is_made_at_the_first_start_lets_in_and_is_shown_nowhere(server: Weighbridge) -> None:
    file = server.data_dir / "admin-token"
    token = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600

    assert post(server, "another", project="alice", cost_usd="1", why="x").status_code == 401
    assert post(server, token, project="alice", cost_usd="1", why="x").status_code == 201
    until(lambda: '"event":"admin_refused"' in server.log(), "its line in the log")
    shown = [server.log(), httpx2.get(f"{server.admin_url}/metrics").text, server.run("config", "show")]
    assert [text for text in shown if token in text] == []
    server.stop()
    server.start()
    assert file.read_text().strip() == token


def test_the_bill_is_corrected_with_a_server_and_without_one(server: Weighbridge) -> None:
    ids = [adjust(server, "-1.5")]
    server.stop()
    ids.append(adjust(server, "0.25"))
    server.start()
    ids.append(adjust(server, "2"))

    assert [record.record_id for record in server.records()] == ids
    [row] = reports.report(ledger_files(server.data_dir), ["project"])
    assert (row.calls, row.cost_usd, row.adjustments_cost_usd) == (0, 750_000_000, 750_000_000)


def test_after_a_kill_commands_work_on_the_files_and_then_find_the_next_server(server: Weighbridge) -> None:
    """What the killed one left of its address leads nobody astray."""
    before = server.admin_url
    server.stop(signal.SIGKILL)
    assert before in (server.data_dir / "ledger" / "owner").read_text()

    first = adjust(server, "-1.5")
    server.start()
    assert adjust(server, "-1.5", "--id", first) == first
    assert [record.record_id for record in server.records()] == [first]


def test_a_command_asks_the_server_of_its_own_data_dir(server: Weighbridge, upstream: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with weighbridge(tmp_path / "other", upstream) as other:
        other.key()
        adjust(server, "1")
        adjust(other, "2")
        assert [record.cost_usd for record in server.records()] == [1_000_000_000]
        assert [record.cost_usd for record in other.records()] == [2_000_000_000]


def test_a_command_with_another_token_is_refused_and_told_why(server: Weighbridge) -> None:
    server.environment = {"WEIGHBRIDGE_ADMIN_TOKEN": "a-token-of-another-server"}

    said = failing(server, "usage", "adjust", "alice", "1", "--why", "torn")
    assert said.startswith(f"error: the server that runs (process {server.process and server.process.pid}) refuses")
    assert "a-token-of" not in said
    assert server.records() == []


def test_a_token_that_others_could_read_ends_the_start_with_what_to_do(server: Weighbridge) -> None:
    server.stop()
    (server.data_dir / "admin-token").chmod(0o644)

    said = failing(server, "serve")
    assert "admin-token: every user of this machine could have read the admin token: remove the file" in said
    (server.data_dir / "admin-token").unlink()
    server.start()


def test_limits_are_shown_by_the_server_that_runs_and_without_one_from_its_ledger(server: Weighbridge) -> None:
    limits = parse_all(["rpd=5", "concurrency=2"])
    projects.create(open_database(server.storage), "bobs", time.time_ns() // 1000, actor="test", limits=limits)
    key = server.key("bobs")

    def used() -> dict[str, int]:
        told = json.loads(server.run("limits", "show", "bobs", "--json"))
        return {limit["kind"]: limit["used"] for limit in told["limits"]}

    assert used() == {"rpd": 0, "concurrency": 0}
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    url = f"{server.base_url}/v1beta/models/gemini-2.5-flash:generateContent"
    for _ in range(3):
        assert httpx2.post(url, json=body, headers={"x-goog-api-key": key}).status_code == 200
    assert used() == {"rpd": 3, "concurrency": 0}
    server.stop(signal.SIGKILL)
    assert used() == {"rpd": 3, "concurrency": 0}
    server.start()
    assert used() == {"rpd": 3, "concurrency": 0}


def test_what_cannot_be_done_is_one_sentence_with_a_server_and_without(server: Weighbridge) -> None:
    commands = [("alise", "1"), ("alice", "1e3"), ("alice", "1", "--of", "nothing"), ("alice", "1", "--id", "x")]
    arguments = [("usage", "adjust", *command, "--why", "torn") for command in commands]
    with_server = [failing(server, *command) for command in arguments]
    server.stop()

    assert [failing(server, *command) for command in arguments] == with_server
    for said, word in zip(
        with_server, ["did you mean 'alice'?", "plain decimal", "no record 'nothing'", "adj_"], strict=True
    ):
        assert word in said
