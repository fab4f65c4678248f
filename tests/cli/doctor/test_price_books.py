"""Which price book is in force, and whether one that was taken can be used and isn't overtaken."""

from __future__ import annotations

from datetime import date
from importlib.resources import files
from pathlib import Path

import pytest

from proxy.billing import taken_book
from proxy.cli.doctor.findings import Finding, Verdict
from proxy.cli.doctor.price_books import check_price_book

TOML = files("proxy.billing").joinpath("price_book.toml").read_text(encoding="utf-8")


def found(file: Path) -> Finding:
    (finding,) = check_price_book(file)
    return finding


def test_the_programs_own_book_is_named(tmp_path: Path) -> None:
    assert found(tmp_path / "prices.json") == (Verdict.OK, "price book 2026-11-21, comes with the program", "")


@pytest.mark.parametrize(
    ("version", "verdict", "says"),
    [("2026-12-05", Verdict.OK, "taken from new.toml"), ("2026-11-01", Verdict.WARNING, "is older than")],
)
def test_one_that_was_taken_is_named_and_told_where_it_is_overtaken(
    tmp_path: Path, version: str, verdict: Verdict, says: str
) -> None:
    text = TOML.replace("version = 2026-11-21", f"version = {version}")
    taken_book.keep(tmp_path / "prices.json", taken_book.take(text.encode(), "new.toml", date(2026, 12, 5)))
    finding = found(tmp_path / "prices.json")
    assert finding.verdict is verdict
    assert f"price book {version}" in finding.what
    assert says in finding.what
    assert ("update --builtin" in finding.do) == (verdict is Verdict.WARNING)


def test_one_that_was_spoilt_is_a_problem_with_the_way_back(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text("{")
    finding = found(tmp_path / "prices.json")
    assert finding.verdict is Verdict.PROBLEM
    assert "prices.json can't be used" in finding.what
    assert finding.do == "`weighbridge prices update --builtin` goes back to the price book that comes with the program"
