"""Whether the webhook can be listened to on the way, and whether events wait for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from proxy.cli.doctor.findings import Finding, Verdict
from proxy.cli.doctor.webhooks import check_webhook
from proxy.config.schema import Events, Storage
from proxy.control import event_table
from proxy.control.events import make
from proxy.store.database import open_database, upgrade
from tests.cli.doctor.folders import untouched
from tests.control.receiving import SECRET

NOW_S = 1_795_262_400


def look(folder: Path, url: str = "https://x.example/hidden") -> list[Finding]:
    return at(Storage(data_dir=folder), url)


def at(storage: Storage, url: str = "https://x.example/hidden") -> list[Finding]:
    settings = Events(webhook_url=url, webhook_secret_env="X", webhook_secret=SecretStr(SECRET))
    with untouched(storage.data_dir):
        return list(check_webhook(settings, storage, lambda: NOW_S))


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://x.example/", Verdict.OK),
        ("http://x.example/", Verdict.WARNING),
        ("http://127.0.0.1:9/", Verdict.OK),
        ("http://localhost/", Verdict.OK),
        ("http://[::1]/", Verdict.OK),
        ("http://10.0.0.1/", Verdict.WARNING),
    ],
)
def test_plain_http_to_another_machine_is_warned_of(url: str, verdict: Verdict, tmp_path: Path) -> None:
    assert look(tmp_path, url)[0].verdict is verdict


def test_events_that_wait_for_long_are_a_problem_and_its_path_is_not_shown(each_storage: Storage) -> None:
    assert at(each_storage) == [Finding(Verdict.OK, "x.example; no event waits for it", "")]
    upgrade(each_storage)
    database = open_database(each_storage)
    assert at(each_storage) == [Finding(Verdict.OK, "x.example; no event waits for it", "")]
    event_table.note(database, [make("test", {}, "fresh", (NOW_S - 500) * 1_000_000, "1")])
    assert at(each_storage)[0].verdict is Verdict.OK
    old = make("test", {}, "old", (NOW_S - 7200) * 1_000_000, "2")
    event_table.note(database, [old])
    event_table.failed(database, old, NOW_S * 1_000_000, "502")
    (found,) = at(each_storage)
    assert found.verdict is Verdict.PROBLEM
    assert found.what == "1 events wait for x.example, the oldest for 2.0 hours; last answer: 502"
    assert "`weighbridge events test`" in found.do


def test_a_database_without_events_or_in_pieces_is_for_another_check_to_tell(tmp_path: Path) -> None:
    (tmp_path / "weighbridge.db").write_bytes(b"no database" * 100)
    assert look(tmp_path)[0].verdict is Verdict.OK
