"""The fenced blocks of the documentation: where each stands, its language, its text; and the commands of a console."""

from __future__ import annotations

import re
import subprocess
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
    """Of a console, what stands behind each `$ `, and what is shown below; of a block of shell, each command, whole."""
    if block.language != "console":
        return [Command(text) for text in _split(block.text)]
    found = list[Command]()
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command = next(_split(part))
        found.append(Command(command, part[len(command) :]))
    return found


def _split(script: str) -> Iterator[str]:
    """The commands of a script of shell: as many lines as one takes to be complete. A comment is none."""
    text = ""
    for line in script.splitlines(keepends=True):
        if text or (line.strip() and not line.startswith("#")):
            text += line
            if not line.endswith("\\\n") and _is_complete(text):
                yield text
                text = ""
    if text:
        raise ValueError(f"this isn't complete: {text}")


def _is_complete(script: str) -> bool:
    """Whether the shell can read it. It warns where a here-document isn't ended."""
    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    return read.returncode == 0 and not read.stderr
