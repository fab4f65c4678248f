"""The README's picture shows what its pages show, and a page that changes changes it."""

from __future__ import annotations

from html.parser import HTMLParser

from tests.docs.picture import PICTURE, drawn, lines


def test_the_picture_is_of_what_the_pages_show_now() -> None:
    """Else: python -m tests.docs.picture"""
    assert PICTURE.read_text() == drawn(lines())


def test_what_stands_in_it_can_be_read_as_text() -> None:
    texts = list[str]()

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            if self.cdata_elem is None and data.strip():
                texts.append(data)

    Reader().feed(PICTURE.read_text())
    assert texts == [line for line in lines() if line]
    assert any(text.startswith("$ weighbridge usage report") for text in texts)
