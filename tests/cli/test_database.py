"""`weighbridge db`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Weighbridge


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
