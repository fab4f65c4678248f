"""Every command of README and docs, followed page by page as it is printed, on a machine as its reader has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from tests.docs.blocks import Block, commands
from tests.docs.machine import Machine, machine
from tests.docs.not_run import to_run
from tests.docs.scenes import SCENES, Scene, google
from tests.docs.shown import difference

T = TypeVar("T")
BLOCKS = to_run("sh", "console")


def walks() -> Iterator[Scene]:
    """The scenes, and one for each other page that has commands."""
    named = {page for scene in SCENES for page in scene.pages}
    yield from SCENES
    for page in sorted({block.page for block in BLOCKS} - named):
        yield Scene((page,), google)


@pytest.mark.parametrize("scene", list(walks()), ids=lambda scene: " ".join(scene.pages))
def test_commands_do_what_their_page_shows(scene: Scene, environment: Path, tmp_path: Path) -> None:
    """Each ends well, unless the page shows a problem, and prints what is shown below it."""
    with machine(tmp_path, environment, 443, 5432) as reader:
        (reader.folder / ".venv").symlink_to(environment)
        scene.begin(reader)
        for page in scene.pages:
            for block in BLOCKS:
                if block.page == page:
                    follow(block, reader, scene)


def follow(block: Block, reader: Machine, scene: Scene) -> None:
    """Follows a block's commands, each after what is to have happened before it."""
    for command in commands(block):
        for act in _of(scene.before, command.text):
            act(reader)
        ran = reader.follow(command.text, next(_of(scene.typed, command.text), ""))
        where = f"{block.where}: {ran.command}\n{ran.printed}\n"
        assert ran.code == next(_of(scene.code, command.text), 0), where
        assert next(_of(scene.prints, command.text), "") in ran.printed, where
        assert not (differs := difference(command.shown, ran.printed)), f"{where}\n{differs}"
        assert command.text.startswith(tuple(scene.prints)) or '"error": {' not in ran.printed, where


def _of(named: Mapping[str, T], command: str) -> Iterator[T]:
    return (value for begins, value in named.items() if command.startswith(begins))
