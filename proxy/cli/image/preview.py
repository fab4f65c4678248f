"""A picture on the terminal: two pixels a character, the upper one its foreground and the lower one its background."""

from __future__ import annotations

import io

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from proxy.cli.image.files import UNREADABLE

COLUMNS, ROWS = 40, 20
"""At most."""
_UPPER_HALF = "\N{UPPER HALF BLOCK}"
_BEHIND = (128, 128, 128)
"""What shows through a transparent picture."""


def can_show(console: Console) -> bool:
    """Only on a terminal that has colours, and whose user wants them (NO_COLOR)."""
    return console.is_terminal and console.color_system is not None and not console.no_color


def show(console: Console, picture: bytes) -> None:
    """Prints it, if it can be read: who can't see it has the file."""
    try:
        console.print(drawn(picture, min(COLUMNS, console.width)), end="")
    except UNREADABLE:
        return


def drawn(picture: bytes, columns: int = COLUMNS) -> Text:
    """Raises UNREADABLE."""
    small = _small(picture, columns)
    pixel = small.load()
    assert pixel is not None
    text = Text(no_wrap=True, end="")
    for y in range(0, small.height, 2):
        for x in range(small.width):
            upper, lower = pixel[x, y], pixel[x, y + 1] if y + 1 < small.height else None
            text.append(_UPPER_HALF, Style(color=_color(upper), bgcolor=_color(lower) if lower else None))
        text.append("\n")
    return text


def _small(picture: bytes, columns: int) -> Image.Image:
    with Image.open(io.BytesIO(picture)) as opened:
        opened.draft("RGB", (4 * columns, 8 * ROWS))  # a JPEG is decoded at the size that is needed
        opened.thumbnail((columns, 2 * ROWS))
        shown = Image.new("RGB", opened.size, _BEHIND)
        rgba = opened.convert("RGBA")
        shown.paste(rgba, mask=rgba)
        return shown


def _color(rgb: object) -> Color:
    assert isinstance(rgb, tuple)
    return Color.from_rgb(*rgb[:3])
