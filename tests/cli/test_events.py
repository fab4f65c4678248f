"""`weighbridge events`, as typed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from proxy.config.schema import Storage
from proxy.control import event_table
from proxy.control.events import make
from proxy.control.thresholds import BudgetUse, crossed
from proxy.store.database import Database, open_database
from tests.cli.conftest import Weighbridge
from tests.control.receiving import SECRET, header, receiver, status, told

NOW = 1_795_262_400_000_000


@pytest.fixture
def database(weighbridge: Weighbridge, tmp_path: Path) -> Database:
    """With five events: half of a budget without a webhook, and then three with one, and a test."""
    database = open_database(Storage(data_dir=tmp_path / "weighbridge-data"))
    uses = [BudgetUse("alice", None, 50_000_000_000, "total", 30_000_000_000)]
    uses += [BudgetUse("alice", "key_1", 100_000_000_000, "2026-11", 100_033_600_000, "*-image", True)]
    for number, (once, data) in enumerate(crossed(uses)):
        event_table.note(database, [make("budget.threshold", data, once, NOW, f"{number}", send=number > 0)])
    event_table.note(database, [make("odd", {"a": 1}, "odd", NOW + 60_000_000, "9")])
    _, first, second, *_ = reversed(event_table.list_events(database, limit=9))
    event_table.delivered(database, first, NOW + 120_000_000, "204")
    event_table.claim(database, second, NOW)
    event_table.failed(database, second, NOW + 180_000_000, "500")
    return database


def test_list_says_of_each_event_what_it_is_and_whether_it_was_taken(
    database: Database, weighbridge: Weighbridge
) -> None:
    result = weighbridge("events", "list")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    of = "% of $100 for models *-image, 2026-11, shadow ($100.0336)"
    assert lines == [
        "TIME (UTC) EVENT TYPE WHAT DELIVERED",
        '2026-11-21 12:01 evt_9 odd {"a": 1} no: next at 2026-11-21 12:01',
        f"2026-11-21 12:00 evt_3 budget.threshold alice key_1: 100 {of} no: next at 2026-11-21 12:00",
        f"2026-11-21 12:00 evt_2 budget.threshold alice key_1: 80 {of} no: tried once (500), next at 2026-11-21 12:03",
        f"2026-11-21 12:00 evt_1 budget.threshold alice key_1: 50 {of} 2026-11-21 12:02",
        "2026-11-21 12:00 evt_0 budget.threshold alice: 50 % of $50, total ($30) there was no webhook",
    ]


def test_list_json_and_what_is_not_taken_yet(database: Database, weighbridge: Weighbridge) -> None:
    found = json.loads(weighbridge("events", "list", "--undelivered", "--limit", "2", "--json").stdout)
    assert [event["id"] for event in found] == ["evt_9", "evt_3"]
    assert found[1] == {
        "id": "evt_3",
        "type": "budget.threshold",
        "created_at": "2026-11-21T12:00:00.000000Z",
        "data": {"project": "alice", "key_id": "key_1", "period": "2026-11", "threshold": 100}
        | {"model": "*-image", "shadow": True, "budget_usd": "100", "spent_usd": "100.0336"},
        "attempts": 0,
        "last_answer": None,
        "next_attempt_at": "2026-11-21T12:00:00.000000Z",
        "delivered_at": None,
    }


def test_list_of_nothing_says_so(weighbridge: Weighbridge) -> None:
    assert "Nothing is on record here." in weighbridge("events", "list").stdout
    assert "No event waits" in weighbridge("events", "list", "--undelivered").stdout


def configured(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "some-key")
    monkeypatch.setenv("HOOK", SECRET)
    (folder / "weighbridge.toml").write_text(f'[events]\nwebhook_url = "{url}"\nwebhook_secret_env = "HOOK"\n')


def test_test_sends_a_signed_event_and_says_what_was_answered(
    weighbridge: Weighbridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as script:
        configured(tmp_path, monkeypatch, f"{script.base_url}/hidden")
        result = weighbridge("events", "test")
        as_json = json.loads(weighbridge("events", "test", "--json").stdout)
    event = told(script)[0]
    assert (event["type"], event["data"]) == ("test", {"message": "A test of the webhook."})
    assert abs(int(header(script.received[0], "webhook-timestamp")) - time.time()) < 60
    assert f"took {event['id']}: it answered 204 after " in result.stdout
    assert (as_json["ok"], as_json["status"]) == (True, 204)
    assert "hidden" not in result.output
    assert weighbridge("events", "list").stdout == "Nothing is on record here.\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (status(401), "401. It may not know the secret"),
        (status(301, "location: https://elsewhere.example/"), "301. No redirect is followed"),
        (status(500), "500. Any status from 200 to 299"),
        (None, "Look at the address"),
    ],
)
def test_test_ends_with_1_where_it_is_not_taken_and_says_what_to_do(
    weighbridge: Weighbridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, says: str
) -> None:
    with receiver(lambda _: answer) as script:
        configured(tmp_path, monkeypatch, script.base_url)
        result = weighbridge("events", "test")
        assert weighbridge("events", "test", "--json").exit_code == 1
    assert (result.exit_code, says in result.stderr) == (1, True), result.stderr
    assert SECRET not in result.output


def test_test_without_a_webhook_says_where_to_name_one(
    weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "some-key")
    result = weighbridge("events", "test")
    assert (result.exit_code, "events.webhook_url" in result.stderr) == (1, True)
