"""A picture on the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from proxy.cli.image.preview import COLUMNS, ROWS, can_show, drawn, show


def picture(size: tuple[int, int], colour: Any = "red", kind: str = "PNG", mode: str = "RGB") -> bytes:
    held = io.BytesIO()
    Image.new(mode, size, colour).save(held, kind)
    return held.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1024, 1024), (4096, 512), (512, 4096), (1000, 1), (1, 1000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_it_is_small_whatever_its_size(size: tuple[int, int], kind: str) -> None:
    lines = drawn(picture(size, kind=kind)).plain.rstrip("\n").split("\n")
    assert 1 <= len(lines) <= ROWS
    assert {len(line) for line in lines} == {len(lines[0])}
    assert 1 <= len(lines[0]) <= COLUMNS


def test_two_pixels_stand_in_one_character() -> None:
    held = io.BytesIO()
    two = Image.new("RGB", (1, 2), "red")
    two.putpixel((0, 1), (0, 0, 255))
    two.save(held, "PNG")
    [span] = drawn(held.getvalue()).spans
    assert str(span.style) == "#ff0000 on #0000ff"


def test_a_transparent_picture_and_a_grey_one_are_shown_too() -> None:
    assert str(drawn(picture((2, 2), (0, 0, 0, 0), mode="RGBA")).spans[0].style) == "#808080 on #808080"
    assert str(drawn(picture((2, 2), 255, mode="L")).spans[0].style) == "#ffffff on #ffffff"


@pytest.mark.parametrize("broken", [b"", b"nothing", picture((9, 9))[:50], picture((900, 900), kind="JPEG")[:700]])
def test_what_can_not_be_read_is_not_shown(broken: bytes) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor")
    show(console, broken)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_only_a_terminal_with_colours_whose_user_wants_them_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert can_show(Console(force_terminal=True, color_system="256"))
    assert not can_show(Console(force_terminal=False, color_system="256"))
    assert not can_show(Console(force_terminal=True, color_system=None))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not can_show(Console(force_terminal=True, color_system="256"))
