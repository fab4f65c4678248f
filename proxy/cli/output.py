"""How commands print: tables for people, JSON for programs, times in UTC."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Sequence

import typer

from proxy.billing.records import to_rfc3339

WIDTH = 100
"""Columns that what is printed for people should fit."""
_NUMBER = re.compile(r"-?\$?[0-9,]+(\.[0-9]+|)")


def line(text: str = "") -> None:
    """A line on standard output."""
    typer.echo(text)


def document(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Columns as wide as they need to be, also in a pipe; those whose index is in `right` are set to the right, with
    their numbers' points below each other."""
    columns = [_by_the_point(cells) if index in right else cells for index, cells in enumerate(zip(*rows, strict=True))]
    rows = list(zip(*columns, strict=True))
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def _by_the_point(cells: Sequence[str]) -> Sequence[str]:
    """So that the longer number isn't taken for the larger one. What is no number stays as it is."""
    behind = [len(found[1]) if (found := _NUMBER.fullmatch(cell)) else None for cell in cells]
    most = max((each for each in behind if each is not None), default=0)
    return [cell if has is None else cell + " " * (most - has) for cell, has in zip(cells, behind, strict=True)]


def moment(at: int | None) -> str | None:
    """Unix microseconds as the ledger's export has them: "2026-11-21T14:46:43.000001Z"."""
    return None if at is None else to_rfc3339(at)


def minute(at: int | None, never: str = "-") -> str:
    """Unix microseconds as people read them, in UTC: "2026-11-21 14:46". Say beside it that it is UTC."""
    return never if at is None else to_rfc3339(at)[:16].replace("T", " ")


def wrapped(text: str, indent: int = 0) -> None:
    """A paragraph on standard output, within a hundred columns, or the terminal's, where its words let it."""
    before = " " * indent
    columns = shutil.get_terminal_size((WIDTH, 0)).columns
    for part in textwrap.wrap(
        text,
        min(columns, WIDTH),
        initial_indent=before,
        subsequent_indent=before + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    ):
        typer.echo(part)


def shortened(text: str, width: int) -> str:
    """A list for a cell of a table, cut after a semicolon where it is too long."""
    return text if len(text) <= width else text[: text.rfind(";", 0, width - 2) + 1] + " …"
