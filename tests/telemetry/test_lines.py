"""A log event becomes one line, whatever is in it: nothing in it can begin another, or tell a terminal anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn

import pytest

from proxy.telemetry import lines

KEY = "wb_0123456789abcdefghijABCDEFGHIJ01abcdef"
FAILED = "log_line_failed"
NASTY = [
    'x\n{"event": "forged"}',
    "x\r\nforged",
    "x\x1b[2J\x1b]0;title\x07",
    "x\x9b31m",
    "x\u2028forged\u2029forged\x85forged\x0bforged\x0cforged",
    "x\u202eforged",
    "x\x00\x7f",
    'x" event=forged level="error',
    "x event=forged",
    "\U000e0001x",
    "\udcff",
]
FINISH: dict[str, Callable[[bytes], bytes]] = {
    "json": lines.as_json,
    "people": lines.for_people,
    "colour": partial(lines.for_people, colour=False),
}


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError(KEY)


def written(event: dict[str, Any], style: str = "json") -> str:
    return FINISH[style](lines.encoded({"timestamp": "t", "level": "info", **event})).decode()


@pytest.mark.parametrize("style", FINISH)
@pytest.mark.parametrize("nasty", NASTY)
def test_no_value_name_or_event_can_begin_another_line_or_tell_a_terminal_anything(nasty: str, style: str) -> None:
    line = written(
        {"event": nasty, "model": nasty, nasty: 1, "nested": {nasty: [nasty]}, "error": ValueError(nasty)}, style
    )
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line.splitlines()) == 1


def test_a_json_line_says_what_was_said() -> None:
    event = {"event": "e", "text": "é🙂\n\x1b", "number": 1, "ratio": 0.5, "no": None, "yes": True}
    assert json.loads(written(event)) == {"timestamp": "t", "level": "info", **event}


def test_for_people_each_field_ends_where_the_next_begins() -> None:
    line = written({"event": "call", "model": "a b", "why": 'x" status=200', "status": 429, "of": ["a"]}, "people")
    assert line == 't info     call model="a b" why="x\\" status=200" status=429 of=["a"]\n'


def test_for_people_a_traceback_is_indented_line_by_line() -> None:
    line = written({"event": "e", "exception": "Traceback:\n  x\x1b[0m\nt error forged"}, "people")
    assert line.splitlines() == ["t info     e", "    | Traceback:", "    |   x\\u001b[0m", "    | t error forged"]


def test_a_level_has_its_colour_on_a_terminal_and_nowhere_else() -> None:
    event = lines.encoded({"timestamp": "t", "level": "error", "event": "e"})
    assert lines.for_people(event, colour=True) == b"t \x1b[31merror   \x1b[0m e\n"
    assert b"\x1b" not in lines.for_people(event)


@pytest.mark.parametrize(
    "value",
    [
        b"x " + KEY.encode(),
        bytearray(KEY, "ascii"),
        memoryview(KEY.encode()),
        b"\xff" + KEY.encode(),
        ValueError(KEY),
        {"a": {"b": {"c": [KEY]}}},
        {KEY: 1},
        {(KEY, 1): 2},
        {KEY.encode(): 1},
        {KEY},
        (KEY,),
        Decimal(1),
        2**70,
        float("nan"),
        Unprintable(),
        {"x": Unprintable()},
        type(KEY, (), {}),
        KeyError(b"Authorization: Bearer " + KEY.encode()),
    ],
)
@pytest.mark.parametrize("style", ["json", "people"])
def test_values_of_any_kind_are_told_without_secrets(value: object, style: str) -> None:
    line = written({"event": "e", "value": value}, style)
    assert KEY not in line
    assert FAILED not in line
    if style == "json":
        assert json.loads(line)["event"] == "e"


def test_what_contains_itself_is_told_to_a_depth() -> None:
    itself: list[object] = []
    itself.append(itself)
    assert "<list>" in written({"event": "e", "value": itself})


def test_a_long_text_is_told_by_its_beginning_and_its_end() -> None:
    text = f"begins {'x' * 100_000} ends"
    line = json.loads(written({"event": "e", "text": text, "error": ValueError(text), "bytes": text.encode()}))
    for name in ("text", "error", "bytes"):
        assert len(line[name]) < lines.LONGEST + 100
        assert "begins" in line[name][:30]
        assert line[name].endswith(" ends")
    assert "100012 characters" in line["text"]


def test_exceptions_are_told_with_their_kind_and_their_notes() -> None:
    error = ValueError("what")
    error.add_note(f"noted {KEY}")
    assert json.loads(written({"event": "e", "error": error}))["error"] == "ValueError: what\nnoted [redacted]"


class Shut(dict[str, str]):
    def items(self) -> NoReturn:
        raise RuntimeError(KEY)


@pytest.mark.parametrize("style", FINISH)
def test_what_cannot_be_told_is_said_to_be_so(style: str) -> None:
    """Neither who logs nor the thread that writes comes to its end by it, and nothing of it is told."""
    assert lines.encoded({"event": "e", "value": Shut(a="b")}) == lines.encoded({"level": "error", "event": FAILED})
    assert FAILED in FINISH[style](b"{" + KEY.encode()).decode()
    assert KEY not in FINISH[style](b"{" + KEY.encode()).decode()
    assert FAILED in FINISH[style](b"\xff").decode()
