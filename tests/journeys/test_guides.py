"""Every guide, followed to the letter: each block of code, run as it is printed, does what its page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.guides import FILES, Block, Chapter, chapters
from tests.pages import GUIDES, chapter_of
from tests.sdk.node import NODE, modules
from tests.stand import Weighbridge

CHAPTERS = list(chapters())

RUN = {
    "sh": ["bash", "-e"],
    "python": [sys.executable],
    "javascript": [str(NODE)],
    "go": ["go", "run", "-gcflags=all=-N -l"],  # not optimized: the standard library is compiled in half the time
    "java": ["java"],
    "php": ["php"],
}
"""The command for a file of each language."""


def environment(stand: Weighbridge, key: str) -> dict[str, str]:
    """What a reader has exported, and nothing of ours or Google's besides."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("GEMINI_", "GOOGLE_", "OPENAI_"))
    }
    return {**clean, "CGO_ENABLED": "0", "WEIGHBRIDGE_URL": stand.base_url, "WEIGHBRIDGE_KEY": key}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what a reader has there: pictures of their own, and the packages that a page says to install."""
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(tmp_path / "photo.jpg")
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "logo.png")
    mask = Image.new("RGBA", (640, 480), "black")
    mask.paste((0, 0, 0, 0), (0, 0, 640, 160))
    mask.save(tmp_path / "mask.png")
    (tmp_path / "node_modules").symlink_to(modules())
    return tmp_path


def as_parameter(chapter: Chapter) -> Any:
    """With the programs that it takes, so that it is left out where they aren't."""
    return pytest.param(chapter, marks=pytest.mark.programs(*sorted(chapter.programs())), id=chapter.name)


@pytest.mark.parametrize("chapter", [as_parameter(chapter) for chapter in CHAPTERS if chapter.blocks])
def test_a_chapter_does_what_it_says(chapter: Chapter, stand: Weighbridge, folder: Path) -> None:
    """Each of its blocks ends well, saves pictures that can be opened, prints what it is to, and is on the bill."""
    key = stand.key()
    for block in chapter.blocks:
        before = len(stand.records())
        printed = run(block, folder, environment(stand, key))
        assert [words for words in block.prints if words not in printed] == [], f"{block.where}: {printed}"
        for name in block.saves:
            assert is_whole(folder / name), f"{block.where}: {name}"
        assert len(stand.records()) == before + block.calls, block.where


def run(block: Block, folder: Path, env: dict[str, str]) -> str:
    """Runs a block; what it prints."""
    file = f"picture.{FILES[block.language]}"
    (folder / file).write_text(block.code)
    done = subprocess.run(
        [*RUN[block.language], file], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{block.where}: {done.stdout}\n{done.stderr}"
    return done.stdout


def is_whole(saved: Path) -> bool:
    """Whether a file holds something, and a picture what its name says."""
    if kind := Image.registered_extensions().get(saved.suffix):
        with Image.open(saved) as picture:
            picture.load()
            return picture.format == kind
    return saved.stat().st_size > 0


def test_every_block_is_run_or_says_why_not() -> None:
    """No guide has code that nobody tries without a word."""
    assert [where for chapter in CHAPTERS for where in chapter.unmarked] == []
    assert len({chapter.name.partition(":")[0] for chapter in CHAPTERS if chapter.blocks}) > len(GUIDES) / 2


def test_every_language_is_run() -> None:
    """Each has a command here, and a block in some guide."""
    assert {block.language for chapter in CHAPTERS for block in chapter.blocks} == RUN.keys() == FILES.keys()


def test_which_path_is_for_whom_is_said_alike() -> None:
    """README and the guides' first page have the same three lines."""
    readme, index = chapter_of("README.md", "Which path"), chapter_of("docs/guides/index.md", "Guides")
    rows = [line for line in readme.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert [line for line in index.splitlines() if line.startswith("|")][: len(rows)] == rows
