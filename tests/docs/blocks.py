"""The fenced blocks of the documentation: where each stands, its language, its text; and the commands of a console."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.pages import PAGES, ROOT

_FENCE = re.compile(r" *(?P<fence>`{3,}|~{3,})(?P<language>[^`]*)")
_MARK = re.compile(r"<!-- (.*?) -->")


@dataclass(frozen=True)
class Block:
    """What stands between two fences. `page` is named from the root of the repository, `line` is the first fence's."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    """What a comment says that stands on the line above it, which a reader of the page doesn't see."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a block, whole, however many lines it has, and what the page shows of its output: "" for nothing."""

    text: str
    shown: str = ""


def blocks_in(page: str, text: str) -> Iterator[Block]:
    """Each block of a page's text, in its order; of one in a list, without the list's indent.

    Raises ValueError: a fence isn't closed."""
    above, opened, body = "", None, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.fullmatch(line)
        if opened is None:
            if found:
                mark = _MARK.fullmatch(above.strip())
                opened, body = (number, found, mark[1] if mark else ""), []
            above = line
        elif found and not found["language"].strip() and found["fence"].startswith(opened[1]["fence"]):
            inside = textwrap.dedent("".join(f"{each}\n" for each in body))
            yield Block(page, opened[0], opened[1]["language"].strip(), inside, opened[2])
            above, opened = "", None
        else:
            body.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: this fence isn't closed")


@cache
def blocks_of_page(page: Path) -> tuple[Block, ...]:
    """The blocks of a page, which is given by its path."""
    return tuple(blocks_in(str(page.relative_to(ROOT)), page.read_text("utf-8")))


def all_blocks(*languages: str) -> list[Block]:
    """Those of all pages, or those of them that are in one of the languages."""
    found = (block for page in PAGES for block in blocks_of_page(page))
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> list[Command]:
    """Of a console, what stands behind each `$ ` with the lines that go on with it, and what is shown below; of a block
    of shell, the whole as one command, which shows nothing."""
    if block.language != "console":
        return [Command(block.text)]
    found = list[Command]()
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command = re.match(r"(?:.*\\\n)*.*\n", part)
        assert command is not None
        found.append(Command(command[0], part[command.end() :]))
    return found
