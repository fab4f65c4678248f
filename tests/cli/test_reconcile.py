"""`weighbridge usage reconcile`, as typed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.billing.sample import NOON, sample
from tests.billing.test_reports import written
from tests.billing.test_retention import remove
from tests.cli.conftest import Weighbridge


@pytest.fixture(autouse=True)
def _ledger(weighbridge: Weighbridge, tmp_path: Path) -> None:
    records = (sample("a"), sample("b", estimated=True, outcome="truncated"), sample("c", upstream="other"))
    asyncio.run(written(tmp_path / "weighbridge-data", *records))


def export(tmp_path: Path, cost: str, head: str = "Date,Model,Cost ($)") -> str:
    (tmp_path / "google.csv").write_text(f"{head}\n2026-11-21,gemini-2.5-flash-image,{cost}\nTotal,,{cost}\n")
    return "google.csv"


def test_bills_that_are_alike_end_with_0(weighbridge: Weighbridge, tmp_path: Path) -> None:
    result = weighbridge("usage", "reconcile", export(tmp_path, "0.10"))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split() == [
        *("2026-11-21", "gemini-2.5-flash-image", "3", "0.1008063", "0.10", "0.0008063")
    ]
    assert "Left out: 1 rows, 0.10 USD, rows without a day, such as totals." in result.stdout


def test_a_difference_ends_with_1_and_says_which_calls_could_explain_it(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    result = weighbridge("usage", "reconcile", export(tmp_path, "0.067"))
    assert result.exit_code == 1
    assert "2026-11-21 gemini-2.5-flash-image: 0.1008063 USD here, 0.067 there" in result.stdout
    assert "1 calls, 0.0336021 USD, the upstream broke off" in result.stdout
    assert weighbridge("usage", "reconcile", "google.csv", "--tolerance", "0.04").exit_code == 0
    assert weighbridge("usage", "reconcile", "google.csv", "--upstream", "google").exit_code == 0


def test_it_is_told_as_json_for_programs(weighbridge: Weighbridge, tmp_path: Path) -> None:
    told = json.loads(weighbridge("usage", "reconcile", export(tmp_path, "0.067"), "--json").stdout)
    [line] = told["lines"]
    assert (line["ours"]["cost_usd"], line["google"]["cost_usd"], line["differs"]) == (
        "0.1008063",
        "0.067",
        ["cost_usd"],
    )
    assert line["could_explain"]["estimated"] == {"calls": 1, "cost_usd": "0.0336021", "record_ids": ["b"]}
    assert told["columns"] == {"day": "Date", "model": "Model", "cost": "Cost ($)"}


def test_other_columns_are_named_or_refused_in_a_sentence(weighbridge: Weighbridge, tmp_path: Path) -> None:
    file = export(tmp_path, "0.10", head="Tag,Model,Kosten")
    result = weighbridge("usage", "reconcile", file)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--map FIELD=COLUMN" in result.stderr
    assert weighbridge("usage", "reconcile", file, "--map", "day=Tag", "--map", "cost=Kosten").exit_code == 0


@pytest.mark.parametrize("arguments", [("--map", "cost"), ("--tolerance", "-1"), ("--tolerance", "x")])
def test_a_mistake_is_a_sentence(weighbridge: Weighbridge, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = weighbridge("usage", "reconcile", export(tmp_path, "1"), *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


def test_a_file_that_is_none_is_a_sentence(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for file in ("binary", "nowhere"):
        result = weighbridge("usage", "reconcile", file)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


def test_days_whose_records_were_removed_are_left_out_and_told(weighbridge: Weighbridge, tmp_path: Path) -> None:
    remove(tmp_path / "weighbridge-data", NOON + 10_000_000, most=1)
    row = "gemini-2.5-flash-image,0.10"
    (tmp_path / "google.csv").write_text(f"Date,Model,Cost ($)\n2026-11-20,{row}\n2026-11-21,{row}\n2026-11-22,{row}\n")
    result = weighbridge("usage", "reconcile", "google.csv", "--tolerance", "1")
    assert [line.split()[0] for line in result.stdout.splitlines()[1:2]] == ["2026-11-22"]
    assert "Left out: 2 rows, 0.20 USD, rows that begin before 2026-11-21T12:00Z: the records" in result.stdout
    assert result.exit_code == 0
