"""Pictures of callers: taken or refused by their content, in words that name the parameter and tell what to do."""

from __future__ import annotations

import tracemalloc
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CallerErred, Reason
from proxy.gateway.images import formats
from proxy.gateway.images.formats import HEAD, Facts, check, dimensions, inspect, sniff
from proxy.gateway.images.structure import Unsound
from tests.gateway.images.pictured import animated, encoded, png

KINDS = ("PNG", "JPEG", "WEBP")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_told_by_its_content(kind: str) -> None:
    content = encoded(kind, (40, 30))
    facts = Facts(f"image/{kind.lower()}", 40, 30)
    assert sniff(content) == facts.media_type
    assert check(content, "image") == facts
    assert check(memoryview(bytearray(content)), "image") == facts
    assert dimensions(b64encode(content)) == (40, 30, facts.media_type)


BAD = [
    (b"", "is no picture"),
    (b"a picture", "is no picture"),
    (encoded("GIF"), "is no picture"),
    (encoded("BMP"), "is no picture"),
    (b"\0\0\0\x18ftypheic" + bytes(99), "is no picture"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
    (encoded("PNG")[:-20], "is truncated"),
    (encoded("JPEG")[:-20], "is truncated"),
    (encoded("WEBP")[:-20], "is truncated"),
    (encoded("PNG")[:10], "is truncated"),
    (animated("PNG"), "is animated"),
    (animated("WEBP"), "is animated"),
    (png(30_000, 30_000, data=b"few"), "is 30000 x 30000 pixels"),
    (png(16_385, 1), "is 16385 x 1 pixels"),
    (png(1, 16_385), "is 1 x 16385 pixels"),
    (png(8_001, 8_000, data=b"few"), "is 8001 x 8000 pixels"),
    (png(0, 8), "is damaged"),
    (encoded("PNG")[:60] + b"####" + encoded("PNG")[64:], "is damaged"),
]


@pytest.mark.parametrize(("content", "words"), BAD)
def test_what_is_not_taken_is_refused_in_words_that_tell_why(content: bytes, words: str) -> None:
    with pytest.raises(CallerErred) as raised:
        check(content, "image[1]")
    assert raised.value.message.startswith(f"image[1] {words}")
    assert raised.value.param == "image[1]"
    assert raised.value.reason is Reason.BAD_REQUEST
    with pytest.raises(Unsound, match=words):
        inspect(content)


def test_the_largest_are_taken_and_no_pixel_is_made() -> None:
    """A file of a few kilobytes may promise hundreds of megabytes: what is checked is the promise."""
    largest = png(8_000, 8_000)
    wide = encoded("JPEG", (16_384, 8), "L")
    tracemalloc.start()
    try:
        assert check(largest, "image")[1:] == (8_000, 8_000)
        assert check(wide, "image")[1:] == (16_384, 8)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_a_refusal_lets_go_of_the_content() -> None:
    """What holds a body may be given back while its refusal is still on its way."""
    content = bytearray(encoded("PNG")[:-20])
    with pytest.raises(CallerErred) as raised:
        check(memoryview(content), "image")
    assert raised.value.__context__ is None


def test_dimensions_are_told_by_the_start_and_the_rest_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = formats.binascii.a2b_base64

    def counting(data: bytes, **options: bool) -> bytes:
        decoded.append(len(data))
        return decode(data, **options)

    monkeypatch.setattr(formats.binascii, "a2b_base64", counting)
    for kind, most in (("PNG", 64), ("WEBP", 64), ("JPEG", 64 + 4096)):
        decoded.clear()
        base64 = b64encode(encoded(kind, (500, 400), quality=100))
        assert dimensions(memoryview(base64[:4096] + b"!" * 1_000_000)) == (500, 400, f"image/{kind.lower()}")
        assert sum(decoded) <= most
    late = b64encode(encoded("JPEG", (50, 40), exif=b"Exif\0\0" + bytes(40_000)))
    assert dimensions(memoryview(late)) == (50, 40, "image/jpeg")
    decoded.clear()
    too_late = b64encode(encoded("JPEG", (50, 40), exif=b"Exif\0\0" + bytes(60_000)))
    assert dimensions(too_late) is None
    assert max(decoded) <= HEAD


@pytest.mark.parametrize(
    "text", [b"", b"iVBO", b"iVBORw0KGgo", b'"iVBORw0KGgo', b"https://x/y.png", b"====", "é".encode() * 40]
)
def test_dimensions_that_cannot_be_told_are_none(text: bytes) -> None:
    assert dimensions(text) is None


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"iVBORw0KGgoAAAANSUhEUgAA", b"/9j/4AAQ", b"UklGRiQAAABXRUJQVlA4"])
)
def test_no_text_makes_dimensions_fail(text: bytes, start: bytes) -> None:
    for base64 in (start + text, start + b64encode(text)):
        found = dimensions(base64)
        assert found is None or found[2].startswith("image/")
