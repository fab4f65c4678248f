"""The account and its file."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from proxy.emulator.account import Account, RequestLog
from proxy.emulator.app import DEFAULT_KEY, create_app
from tests.emulator.conftest import TEXT, Client
from tests.servers import running


def _lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_log_forgets_the_oldest_and_goes_on_counting() -> None:
    log = RequestLog(room=2)
    for name in "abc":
        log.add({"name": name})
    assert [(entry["seq"], entry["name"]) for entry in log.entries()] == [(2, "b"), (3, "c")]
    log.clear()
    assert log.add({"name": "d"})["seq"] == 4


def test_pages_join_without_gap_or_overlap() -> None:
    log = RequestLog(room=10)
    for _ in range(5):
        log.add({})
    seen, after = [], 0
    while after is not None:
        page = log.page(after, 2)
        seen += [entry["seq"] for entry in page["entries"]]
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5]


def test_the_last_line_of_an_entry_in_the_file_says_how_it_ended(tmp_path: Path) -> None:
    file = tmp_path / "account.jsonl"
    with closing(Account(file=file)) as account:
        account.ended(account.add({"id": "a"}), sent_whole=False)
    assert _lines(file) == [{"seq": 1, "id": "a", "sent_whole": how} for how in (None, False)]


def test_an_account_goes_on_where_its_file_ends(tmp_path: Path) -> None:
    file = tmp_path / "account.jsonl"
    for _ in range(2):
        with closing(Account(file=file)) as account:
            account.add({"id": "a"})
    assert len(_lines(file)) == 2


def test_an_entry_is_in_the_file_before_its_response_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "account.jsonl"
    fields = {"contents": [{"parts": [{"text": "A [[stall=1]]"}]}]}
    with (
        closing(Account(file=file)) as account,
        running(create_app(account=account)) as url,
        Client(base_url=url, headers={"x-goog-api-key": DEFAULT_KEY}, timeout=20) as client,
        client.stream("POST", f"/v1/models/{TEXT}:generateContent", json=fields) as stalled,
    ):
        # Held, because an iterator that is collected closes the connection.
        pieces = stalled.iter_raw()
        assert next(pieces)
        (line,) = _lines(file)
        assert line["sent_whole"] is None
        assert line["id"] == client.last_billed()["id"]
