"""What a page shows of a command's output, held beside what is printed: the same words in the same columns and lines.

Numbers, times, ids and keys are other ones each time: a number of the page stands for any number. A line that is `…`
stands for any lines, and `…` within a line for anything. How wide a column is, isn't compared: it hangs on the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ANY = (
    (r"\bkey_[0-9A-Za-z]{16}\b", r"key_[0-9A-Za-z]{16}"),
    (r"\bwb_[0-9A-Za-z]{4}…[0-9A-Za-z]{4,5}", r"wb_[0-9A-Za-z]+(?:…[0-9A-Za-z]+)?"),
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", r"[0-9a-f-]{36}"),
    (r"\b[0-9a-f]{32}\b", r"[0-9a-f]{32}"),
    (r"\bcli:\w+", r"cli:\w+"),
    (r"\bP[SD]T\b", r"P[SD]T"),
    (r"-?\b\d[\d,]*(?:\.\d+)?", r"-?\d[\d,]*(?:\.\d+)?"),
    (r"\s+", r"\\s+"),
    (r"…", r".*"),
)
"""What is another one each time, or may be: how the page has it, and what stands for it."""
_PIECES = re.compile("|".join(f"({seen})" for seen, _ in _ANY))


def pattern(line: str) -> re.Pattern[str]:
    """What a line that is shown stands for."""
    found, at = "", 0
    for piece in _PIECES.finditer(line):
        assert piece.lastindex is not None
        found += re.escape(line[at : piece.start()]) + _ANY[piece.lastindex - 1][1].replace("\\\\", "\\")
        at = piece.end()
    return re.compile(found + re.escape(line[at:]))


def difference(shown: str, printed: str) -> str:
    """The first line that is shown and isn't printed there, with what stands in its place; "" where all are."""
    wanted, came = _lines(shown), _lines(printed)
    at, anywhere = 0, False
    for line in wanted:
        if line == "…":
            anywhere = True
            continue
        found = _find(pattern(line), came, at, anywhere)
        if found is None:
            return f"shown:   {line}\nprinted: {came[at] if at < len(came) else '(nothing more)'}"
        at, anywhere = found + 1, False
    return "" if anywhere or at == len(came) or not wanted else f"printed, and not shown: {came[at]}"


def _lines(text: str) -> list[str]:
    """Without those that are empty, and without a line's end and indent."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _find(wanted: re.Pattern[str], lines: Sequence[str], at: int, anywhere: bool) -> int | None:
    last = len(lines) if anywhere else min(at + 1, len(lines))
    return next((number for number in range(at, last) if wanted.fullmatch(lines[number])), None)
