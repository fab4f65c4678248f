"""What doctor finds of aliases: such as never count, and such as lead to what has no price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proxy.cli.doctor.aliases import check_aliases
from proxy.cli.doctor.findings import Finding, Verdict
from proxy.config.schema import Settings


def found(folder: Path, *pairs: tuple[str, str], **more: Any) -> list[Finding]:
    models = [{"match": match, "use": use} for match, use in pairs]
    return list(check_aliases(Settings.model_validate({"models": models, "storage": {"data_dir": folder}, **more})))


def test_aliases_that_count_and_have_a_price_are_counted(tmp_path: Path) -> None:
    (all_well,) = found(tmp_path, ("a", "gemini-3.8-flash"), ("a*", "gemini-4-carbon"), ("b", "gemini-flash-latest"))
    assert (all_well.verdict, all_well.what) == (Verdict.OK, "3 in all, each to a model with a price")


def test_one_to_a_model_without_a_price_is_told_unless_it_is_given_one(tmp_path: Path) -> None:
    (unpriced,) = found(tmp_path, ("a", "gemini-9"), ("b", "gemini-3.8-flash"))
    assert unpriced.verdict is Verdict.WARNING
    assert unpriced.what == "the alias a leads to gemini-9, which has no price"
    (priced,) = found(tmp_path, ("a", "gemini-9"), prices=[{"model": "gemini-9", "input_text": 1}])
    assert priced.verdict is Verdict.OK


def test_one_behind_a_glob_that_matches_it_never_counts(tmp_path: Path) -> None:
    (never,) = found(tmp_path, ("gemini-*", "gemini-3.8-flash"), ("gemini-1", "gemini-9"))
    assert never.verdict is Verdict.WARNING
    assert "gemini-1 never counts: gemini-*, before it" in never.what


def test_a_price_book_that_cannot_be_used_is_no_finding_about_aliases(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text("junk")
    assert found(tmp_path, ("a", "gemini-3.8-flash"))[0].verdict is Verdict.OK
