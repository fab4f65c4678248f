"""Inline data: what is surely base64 is stepped over, wherever it is cut; whatever may be more stays in the text."""

from __future__ import annotations

import json

import pytest

from proxy.errors import Reason
from proxy.gemini.inline import DATA_URLS, PIECE, without_base64
from tests.gemini.test_bodies import PICTURE, asks, facts, refused


def test_slashes_that_php_escapes_are_inline_data_all_the_same() -> None:
    php = json.dumps(asks("x", PICTURE)).replace("/", "\\/")
    assert (facts(php).inline_pictures, facts(php).text_bytes < 500) == (1, True)


@pytest.mark.parametrize("end", [b"\\", b"\\\\", b"\\/\\", b"\\n", b"\\u0041", "\u00e9".encode()])
def test_only_what_surely_ends_at_the_next_quote_is_stepped_over(end: bytes) -> None:
    body = b'{"data":"' + PICTURE.encode() + end + b'", "b": 1}'
    assert without_base64(body).whole() == body
    assert without_base64(body.replace(end, b"")).whole() == b'{"data":"", "b": 1}'


def test_many_pieces_of_inline_data_are_looked_at() -> None:
    body = asks("x", *["A" * 2000] * 1300)
    got = facts(body)
    assert got.inline_pictures == 1300
    assert got.text_bytes < len(json.dumps(body)) / 2
    refused(asks("x", *["A" * 2000] * 1300, cachedContent="x"), Reason.RESOURCE_NOT_OWNED)


@pytest.mark.parametrize("escape", ["\\/", "\\n"])
@pytest.mark.parametrize("before", range(PIECE - 2, PIECE + 2))
def test_an_escape_across_the_pieces_of_inline_data_is_seen(escape: str, before: int) -> None:
    body = '{"data":"' + "A" * before + escape + "A" * 9 + '"}'
    assert (facts(body).text_bytes == len(body)) == (escape == "\\n")


@pytest.mark.parametrize("kind", ["image/png", "audio/x-wav", "application/pdf;name=a.pdf", "image\\/png"])
def test_a_data_url_is_stepped_over_from_its_base64_on(kind: str) -> None:
    body = f'{{"url": "data:{kind};base64,{PICTURE}", "data": "{PICTURE}"}}'.encode()
    assert without_base64(body, DATA_URLS).whole() == f'{{"url": "data:{kind};base64,", "data": ""}}'.encode()
    assert without_base64(body).whole() == body.replace(f'"data": "{PICTURE}"'.encode(), b'"data": ""')


@pytest.mark.parametrize("url", ["data:image/png,", "data:;base64,", "data:a/b;base64 ,", "xdata:image/png;base64,"])
def test_what_is_no_data_url_of_base64_stays(url: str) -> None:
    body = f'{{"url": "{url}{PICTURE}"}}'.encode()
    assert without_base64(body, DATA_URLS).whole() == body


def test_a_data_url_within_a_text_ends_where_that_text_does() -> None:
    for text in (f'<img src=\\"data:image/png;base64,{PICTURE}\\">', f"see data:image/png;base64,{PICTURE}"):
        body = f'{{"text": "{text}", "x": 1}}'.encode()
        assert without_base64(body, DATA_URLS).whole() == body
