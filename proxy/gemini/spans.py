"""Where in a JSON text its values stand, so that a few bytes can be spliced and the rest left as it came.

Texts are read as Latin-1, so that an index is a byte's: the syntax is ASCII, and what names and values say is asked of
the bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Span = tuple[int, int]
"""Start and end of a value, with its quotes, brackets or braces."""

_value = json.JSONDecoder().raw_decode
_SPACE = frozenset(" \t\r\n")
_space = re.compile(r"[ \t\r\n]*").match


def members(text: str, start: int) -> Iterator[tuple[str, Span]]:
    """Names, unescaped, and values of the object that begins at `start`. Raises ValueError where it is none."""
    at, closed = _opened(text, start, "{}")
    while not closed:
        name, at = _value(text, at)
        if not isinstance(name, str):
            raise ValueError(f"no name of a member before {at}")
        at = _expect(text, at, ":")
        _, end = _value(text, at)
        yield name, (at, end)
        at, closed = _next(text, end, "}")


def elements(text: str, start: int) -> Iterator[Span]:
    """The values in the array that begins at `start`. Raises ValueError where it is none."""
    at, closed = _opened(text, start, "[]")
    while not closed:
        _, end = _value(text, at)
        yield at, end
        at, closed = _next(text, end, "]")


def fields(text: str, start: int) -> dict[str, Span]:
    """The members of the object that begins at `start`, by name. Raises ValueError, also where two have the same."""
    found: dict[str, Span] = {}
    for name, span in members(text, start):
        if name in found:
            raise ValueError(f"two members have the same name before {span[0]}")
        found[name] = span
    return found


def read(text: str, span: Span) -> Any:
    """The value there. Raises ValueError."""
    written = text[span[0] : span[1]]
    return json.loads(written if written.isascii() else written.encode("latin-1"))


def begins(text: str, at: int = 0) -> int:
    """Where from `at` on the next value begins."""
    if text[at : at + 1] in _SPACE:
        found = _space(text, at)
        assert found is not None
        return found.end()
    return at


def _opened(text: str, start: int, brackets: str) -> tuple[int, bool]:
    """Where the first member of an object or array begins, and whether it has none."""
    at = _expect(text, start, brackets[0])
    return at, text[at : at + 1] == brackets[1]


def _next(text: str, end: int, closing: str) -> tuple[int, bool]:
    """Where the next member begins, and whether there is none."""
    at = begins(text, end)
    return (at, True) if text[at : at + 1] == closing else (_expect(text, at, ","), False)


def _expect(text: str, at: int, sign: str) -> int:
    """Where what follows the sign begins."""
    at = begins(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"no {sign} at {at}")
    return begins(text, at + 1)
