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


def test_a_document_is_json_that_people_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"name": "Zoë", "at": None})
    text = capsys.readouterr().out
    assert "Zoë" in text
    assert json.loads(text) == {"name": "Zoë", "at": None}


def test_a_moment_is_told_in_utc() -> None:
    assert output.moment(1_795_273_603_999_999) == "2026-11-21T15:06:43.999999Z"
    assert output.moment(None) is None
