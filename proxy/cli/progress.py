"""How a command shows how far it is: a bar on a terminal, a line now and then elsewhere. On standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TOLD_EVERY = 10
"""Percent, where there is no terminal to draw a bar on."""


@contextmanager
def shown(done: str) -> Iterator[Callable[[int], None]]:
    """What is called with the number of records that are left: draws a bar, or writes lines where nobody looks.

    `done`: what becomes of them, such as "moved".
    """
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _lines(done)
        return
    columns = TextColumn("Records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def tell(left: int) -> None:
            total = max(left, int(bar.tasks[0].total or 0))
            bar.update(task, total=total, completed=total - left)

        yield tell


def _lines(done: str) -> Callable[[int], None]:
    total, told = 0, -TOLD_EVERY

    def tell(left: int) -> None:
        nonlocal total, told
        total = max(total, left)
        percent = 100 * (total - left) // total if total else 0
        if total and percent >= told + TOLD_EVERY:
            told = percent - percent % TOLD_EVERY
            typer.echo(f"{total - left:,} of {total:,} records are {done} ({percent} %)", err=True)

    return tell
