"""The README's picture of a terminal: commands and outputs that stand on pages, where tests hold them to be true.

`python -m tests.docs.picture` draws it anew.
"""

from __future__ import annotations

from html import escape

from tests.docs.blocks import blocks_of_page
from tests.pages import ROOT

PICTURE = ROOT / "docs/terminal.svg"
SHOWN = (("README.md", "$ weighbridge usage report"), ("docs/commands.md", "$ weighbridge limits show"))
"""Pages, and how the block of each begins."""
CHARACTER, LINE, MARGIN, BAR = 7.8, 19, 20, 34
"""Pixels: of a monospaced text of 13."""
_LAMPS = ("#ff5f57", "#febc2e", "#28c840")


def lines() -> list[str]:
    """What the terminal shows."""
    shown = list[str]()
    for page, begins in SHOWN:
        (block,) = (one for one in blocks_of_page(ROOT / page) if one.text.startswith(begins))
        shown += [*block.text.splitlines(), ""]
    return shown[:-1]


def drawn(shown: list[str]) -> str:
    """The picture: text that can be marked and searched, in whatever monospaced font the reader has."""
    width = round(max(map(len, shown)) * CHARACTER) + 2 * MARGIN
    height = BAR + len(shown) * LINE + MARGIN
    texts = "".join(
        f'<text x="{MARGIN}" y="{BAR + (number + 1) * LINE - 5}"{_look(line)} xml:space="preserve" '
        f'textLength="{len(line) * CHARACTER:.0f}">{escape(line, quote=False)}</text>\n'
        for number, line in enumerate(shown)
        if line
    )
    lamps = "".join(f'<circle cx="{22 + 20 * at}" cy="17" r="6" fill="{fill}"/>' for at, fill in enumerate(_LAMPS))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="A terminal: the bill by project and model, and what is used of limits">\n'
        f'<rect width="{width}" height="{height}" rx="10" fill="#16181d"/>{lamps}\n'
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="13" '
        f'fill="#c9d1d9">\n{texts}</g>\n</svg>\n'
    )


def _look(line: str) -> str:
    if line.startswith("$ "):
        return ' fill="#7ee787" font-weight="bold"'
    return ' fill="#8b949e"' if line.isupper() else ""


if __name__ == "__main__":
    PICTURE.write_text(drawn(lines()))
