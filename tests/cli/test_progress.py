"""How far a command is, as it is shown where nobody looks, and on a terminal."""

from __future__ import annotations

import pytest

from proxy.cli import progress


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_lines_are_ten_percent_apart_however_often_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("moved") as tell:
        for left in range(20_000, -1, -10):
            tell(left)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 11
    assert (lines[0], lines[-1]) == (
        "0 of 20,000 records are moved (0 %)",
        "20,000 of 20,000 records are moved (100 %)",
    )


def test_what_comes_to_it_meanwhile_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Until PostgreSQL is asked, what is left is known by a mark that may be of another database."""
    with progress.shown("moved") as tell:
        for left in (100, 1_000, 500, 0):
            tell(left)
    assert [line.split(" records")[0] for line in capsys.readouterr().err.splitlines()] == [
        "0 of 100",
        "500 of 1,000",
        "1,000 of 1,000",
    ]


def test_nothing_left_from_the_beginning_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("moved") as tell:
        tell(0)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress.shown("moved") as tell:
        tell(3_000)
        tell(0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Records" in err
    assert "3000/3000" in err
