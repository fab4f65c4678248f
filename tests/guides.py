"""The guides under docs/guides, as a test follows them: chapters, their blocks of code, and what each block is to do.

A block in a language that can be run has a comment over it, which a reader of the page doesn't see:
`<!-- run: lorry.jpg, 1 call, "16:9" -->`: it saves this picture, leaves one record, prints these words;
`<!-- not run: why -->`: it can't be run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.pages import GUIDES

FILES = {"sh": "sh", "python": "py", "javascript": "mjs", "go": "go", "java": "java", "php": "php"}
"""The languages that can be run, and how a file in one of them ends."""

_OPTIONAL = ("go", "java", "php", "jq", "file")
"""Programs that a machine with the tests' other needs may well not have."""

_CHAPTER = re.compile(r"^#{1,2} ([^\n]+)\n((?:^```.*?^```$|(?!^#{1,2} ).)*)", re.M | re.S)
_BLOCK = re.compile(r"(?:^<!-- (?P<mark>.*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
_MARK = re.compile(r"(not )?run: (.+)")


@dataclass(frozen=True)
class Block:
    """A block of code. `saves` are pictures, or other files; `prints` is what its output has in it."""

    where: str
    language: str
    code: str
    saves: tuple[str, ...] = ()
    calls: int = 0
    prints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """What stands under one heading of a guide, in its order: a reader goes through it in one folder."""

    name: str
    blocks: list[Block] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    """Where blocks stand that neither are to be run nor say why not."""

    def programs(self) -> set[str]:
        """Those that it takes and that a machine may not have."""
        words = {word for block in self.blocks if block.language == "sh" for word in re.findall(r"[\w-]+", block.code)}
        return ({block.language for block in self.blocks} | words).intersection(_OPTIONAL)


def chapters() -> Iterator[Chapter]:
    """Every chapter that has code."""
    for page in GUIDES:
        for found in _CHAPTER.finditer(page.read_text("utf-8")):
            chapter = _chapter(f"{page.name}: {found[1]}", found[2])
            if chapter.blocks or chapter.unmarked:
                yield chapter


def _chapter(name: str, text: str) -> Chapter:
    chapter = Chapter(name)
    for number, found in enumerate(_BLOCK.finditer(text), 1):
        if found["language"] in FILES:
            mark = _MARK.fullmatch(found["mark"] or "")
            if mark is None:
                chapter.unmarked.append(f"{name}, block {number}")
            elif not mark[1]:
                chapter.blocks.append(_block(f"{name}, block {number}", found["language"], found["code"], mark[2]))
    return chapter


def _block(where: str, language: str, code: str, does: str) -> Block:
    prints = tuple(re.findall(r'"([^"]*)"', does))
    others = re.sub(r'"[^"]*"', "", does)
    calls = re.search(r"(\d+) calls?\b", others)
    saves = tuple(re.findall(r"[\w-]+\.\w+", others))
    return Block(where, language, code, saves, int(calls[1]) if calls else 0, prints)
