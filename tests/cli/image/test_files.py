"""Pictures as files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from proxy.cli.image.calls import Made
from proxy.cli.image.files import describe, ending_note, places, save
from proxy.cli.options import CommandError


def made(picture: bytes, cost: int | None = 1) -> Made:
    return Made(picture, "m", None, cost, 1.0)


def test_several_pictures_have_numbers_before_the_ending(tmp_path: Path) -> None:
    assert [path.name for path in places(tmp_path / "a.b.png", 3)] == ["a.b-1.png", "a.b-2.png", "a.b-3.png"]
    assert [path.name for path in places(tmp_path / "a.png", 1)] == ["a.png"]
    (tmp_path / "a-2.png").mkdir()
    with pytest.raises(CommandError, match=r"a-2.png can't be written"):
        places(tmp_path / "a.png", 3)


@pytest.mark.parametrize(
    ("name", "kind", "to"),
    [("a.png", "JPEG", "a.jpg"), ("a.jpg", "PNG", "a.png"), ("a.txt", "WEBP", "a.webp"), ("a.png", "GIF", "a.gif")],
)
def test_an_ending_that_says_something_else_is_told_with_the_name_that_fits(name: str, kind: str, to: str) -> None:
    note = ending_note(Path(name), kind)
    assert note == f"{name} holds a {kind}, whatever its ending says: mv {name} {to}"


@pytest.mark.parametrize(("name", "kind"), [("a.PNG", "PNG"), ("a.jpeg", "JPEG"), ("a.jpg", "JPEG"), ("a", "JPEG")])
def test_of_an_ending_that_fits_nothing_is_said(name: str, kind: str) -> None:
    assert ending_note(Path(name), kind) is None


def test_what_is_no_picture_and_what_is_too_large_a_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match="was saved, but it is no picture that can be read"):
        describe(save(tmp_path / "a", b"nothing"), made(b"nothing"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    held = io.BytesIO()
    Image.new("1", (10, 10)).save(held, "PNG")
    with pytest.raises(CommandError, match="no picture that can be read"):
        describe(tmp_path / "a", made(held.getvalue()))


def test_a_place_that_is_gone_meanwhile_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="can't be written: No such file or directory"):
        save(tmp_path / "gone" / "a.png", b"")
