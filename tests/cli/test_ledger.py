"""`weighbridge ledger`, as typed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.billing.sample import NOON, sample
from tests.billing.test_reports import written
from tests.billing.test_retention import remove
from tests.cli.conftest import Weighbridge


def _fill(data_dir: Path) -> Path:
    return asyncio.run(written(data_dir, *(sample(record_id, usage=None) for record_id in "abc")))[0]


def test_a_ledger_that_is_well_is_told_in_a_sentence(weighbridge: Weighbridge, tmp_path: Path) -> None:
    _fill(tmp_path / "weighbridge-data")
    result = weighbridge("ledger", "verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "weighbridge-data/ledger/0.db: 3 records, 1 to 3; no call is open",
        "  all is well",
    ]


def test_what_is_wrong_is_told_record_by_record_and_ends_with_1(weighbridge: Weighbridge, tmp_path: Path) -> None:
    path = _fill(tmp_path / "one")
    _fill(tmp_path / "two")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER usage_records_no_update")
        connection.execute("UPDATE usage_records SET cost_usd = 7 WHERE record_id = 'b'")
    result = weighbridge("ledger", "verify", "--data-dir", "one", "--data-dir", "two")
    assert result.exit_code == 1
    assert "  cost      b: its rates make 0.0336021 USD, and it stands at 0.000000007" in result.stdout.splitlines()
    assert "  3 findings" in result.stdout.splitlines()

    told = json.loads(weighbridge("ledger", "verify", "--data-dir", "one", "--data-dir", "two", "--json").stdout)
    first, second = told["files"]
    assert [finding["check"] for finding in first["findings"]] == ["file", "cost", "hourly"]
    assert (first["ok"], second["ok"], second["records"], first["served"]) == (False, True, 3, False)


def test_what_retention_removed_is_told_and_no_finding(weighbridge: Weighbridge, tmp_path: Path) -> None:
    _fill(tmp_path / "weighbridge-data")
    remove(tmp_path / "weighbridge-data", NOON + 10_000_000, most=2)
    result = weighbridge("ledger", "verify")
    assert result.stdout.splitlines() == [
        "weighbridge-data/ledger/0.db: 1 records, 3 to 3; no call is open",
        "  Records of calls from before 2026-11-21T12:00Z were removed (storage.retention_days): up to number 2",
        "  all is well",
    ]
    [told] = json.loads(weighbridge("ledger", "verify", "--json").stdout)["files"]
    assert (told["ok"], told["removed_through"], told["removed_before"]) == (True, 2, "2026-11-21T12:00:00.000001Z")


def test_a_folder_without_a_ledger_and_a_file_that_is_none_are_no_ledgers_that_are_well(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    result = weighbridge("ledger", "verify")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    folder = tmp_path / "odd" / "ledger"
    folder.mkdir(parents=True)
    (folder / "0.db").write_text("not a database " * 500)
    result = weighbridge("ledger", "verify", "--data-dir", "odd")
    assert (result.exit_code, "0.db can't be read" in result.stdout) == (1, True)
