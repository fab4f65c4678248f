"""How commands print."""

from __future__ import annotations

import json

import pytest

from proxy.cli import output


def test_columns_are_as_wide_as_they_need_to_be_and_numbers_stand_to_the_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.table(("NAME", "N"), [("a" * 200, "1"), ("b", "1000")], right=[1])
    assert capsys.readouterr().out.splitlines() == [
        "NAME" + " " * 196 + "     N",
        "a" * 200 + "     1",
        "b" + " " * 199 + "  1000",
    ]


def test_the_points_of_numbers_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("USD", ""), [("1,000", "a"), ("-0.04", "b"), ("0.00057225", "c"), ("", "d"), ("-", "e")], right=[0])
    assert capsys.readouterr().out.splitlines() == [
        "           USD",
        "1,000           a",
        "   -0.04        b",
        "    0.00057225  c",
        "                d",
        "             -  e",
    ]


def test_a_document_is_json_that_people_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"name": "Zoë", "at": None})
    text = capsys.readouterr().out
    assert "Zoë" in text
    assert json.loads(text) == {"name": "Zoë", "at": None}


def test_a_moment_is_told_in_utc() -> None:
    assert output.moment(1_795_273_603_999_999) == "2026-11-21T15:06:43.999999Z"
    assert output.moment(None) is None


def test_people_are_told_the_minute() -> None:
    assert output.minute(1_795_273_603_999_999) == "2026-11-21 15:06"
    assert output.minute(None) == "-"
    assert output.minute(None, "never") == "never"


def test_a_paragraph_is_kept_within_a_hundred_columns_and_no_word_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output.wrapped("limits: " + "; ".join(f"rpm={number},model=gemini-{number}-*" for number in range(9)), indent=4)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("    ") and len(line) <= 100 for line in lines)
    assert len(lines) == 3
    assert " ".join(" ".join(lines).split()).count("-*") == 9
    output.wrapped("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"


def test_on_a_narrower_terminal_a_paragraph_is_kept_within_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output.wrapped("word " * 40)
    assert 75 <= max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("text", "shown"), [("a; b", "a; b"), ("aaa; bbb; ccc", "aaa; …"), ("aaaaaaaaaaaaaaa; b", " …"), ("", "")]
)
def test_a_list_too_long_for_its_cell_is_cut_between_its_entries(text: str, shown: str) -> None:
    assert output.shortened(text, 10) == shown
