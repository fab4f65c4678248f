"""`weighbridge store backup`, as typed: what it says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Weighbridge
from tests.journeys.outgrown import fill


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """That of a configuration which says nothing, with a price book that was taken."""
    fill(tmp_path / "weighbridge-data", 20)
    (tmp_path / "weighbridge-data/prices.json").write_text("{}")
    return tmp_path / "weighbridge-data"


def test_it_says_what_it_copied_and_how_to_look_at_it(weighbridge: Weighbridge, data_dir: Path) -> None:
    result = weighbridge("store", "backup", "copy")
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[:5]] == [
        "FILE",
        "weighbridge.db",
        "ledger/0.db",
        "ledger/3.db",
        "prices.json",
    ]
    assert "WEIGHBRIDGE_STORAGE__DATA_DIR=copy weighbridge ledger verify" in result.stdout
    assert (data_dir.parent / "copy/prices.json").read_text() == "{}"


def test_programs_are_told_each_file(weighbridge: Weighbridge, data_dir: Path) -> None:
    told = json.loads(weighbridge("store", "backup", "copy", "--json").stdout)
    assert {file["name"]: file["records"] for file in told["files"]} == {
        "weighbridge.db": None,
        "ledger/0.db": 10,
        "ledger/3.db": 10,
        "prices.json": None,
    }
    assert (told["from"], told["to"]) == ("weighbridge-data", "copy")


def test_a_backup_that_is_there_is_not_written_over(weighbridge: Weighbridge, data_dir: Path) -> None:
    assert weighbridge("store", "backup", "copy").exit_code == 0
    again = weighbridge("store", "backup", "copy")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == "error: copy: it is there already, and a backup is never written over\n"


@pytest.mark.parametrize("folder", ["", ".", "/"])
def test_a_folder_without_a_name_is_there_already(folder: str, weighbridge: Weighbridge, data_dir: Path) -> None:
    """As what a variable holds that isn't set."""
    result = weighbridge("store", "backup", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {folder or '.'}: it is there already, and a backup is never written over\n"


def test_where_there_is_nothing_nothing_is_left(weighbridge: Weighbridge, tmp_path: Path) -> None:
    result = weighbridge("store", "backup", "copy")
    assert result.exit_code == 1
    assert "there is nothing to back up in weighbridge-data" in result.stderr
    assert list(tmp_path.iterdir()) == []
