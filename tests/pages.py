"""The documentation's pages, as tests read them: chapters and tables. tests/docs/blocks.py has their blocks of code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

Row = list[str]


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def chapter_of(page: str, heading: str) -> str:
    """The text under a heading, down to the next one of its level or above; a comment in a code block is none."""
    whole = text_of(page)
    outside = re.sub(r"^```.*?^```$", lambda block: " " * len(block[0]), whole, flags=re.MULTILINE | re.DOTALL)
    found = re.search(rf"^(#+) {re.escape(heading)}$", outside, re.MULTILINE)
    assert found is not None, f"{page} has no heading {heading!r}"
    following = re.compile(rf"^#{{1,{len(found[1])}}} ", re.MULTILINE).search(outside, found.end())
    return whole[found.end() : following.start() if following else None]


def table_of(of: str) -> dict[str, Row]:
    """The rows of the tables in a text, by the word in backticks that their first cell begins with."""
    rows = {}
    for line in of.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and (word := re.match(r"`([^`]+)`", cells[0])):
            rows[word[1]] = cells
    return rows
