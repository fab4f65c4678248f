"""The structure of picture files: sizes as the decoders see them, ends where they end, work bounded by the bytes."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxy.gateway.images import structure
from proxy.gateway.images.structure import (
    MOST_INFLATED,
    MOST_PARTS,
    MOST_SCANS,
    MOST_SEGMENTS,
    Unsound,
    check_jpeg,
    check_png,
    check_webp,
    jpeg_size,
    png_size,
    webp_size,
)
from tests.gateway.images.pictured import SIGNATURE, animated, chunk, encoded, png

READS: dict[str, Any] = {
    "PNG": (png_size, check_png),
    "JPEG": (jpeg_size, check_jpeg),
    "WEBP": (webp_size, check_webp),
}


def look(kind: str, content: bytes) -> tuple[int, int]:
    size, check = READS[kind]
    found = size(memoryview(content))
    check(memoryview(content))
    return found


REAL = [
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {"compress_level": 0}),
    ("PNG", "P", {}),
    ("PNG", "L", {"icc_profile": bytes(3000)}),
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"quality": 100}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "RGB", {"progressive": True, "icc_profile": bytes(200_000)}),
    ("JPEG", "RGB", {"restart_marker_blocks": 2, "exif": b"Exif\0\0" + bytes(60_000)}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGB", {"lossless": True, "icc_profile": b"1234", "exif": b"Exif\0\0II"}),
    ("WEBP", "RGBA", {"exif": bytes(999), "xmp": bytes(999)}),
]


@pytest.mark.parametrize(("kind", "mode", "options"), REAL)
def test_sizes_are_those_that_the_decoder_sees_and_every_cut_is_noticed(
    kind: str, mode: str, options: dict[str, Any]
) -> None:
    for size in ((1, 1), (5, 3), (300, 17)):
        content = encoded(kind, size, mode, **options)
        assert look(kind, content) == size
        assert look(kind, content + b"what a camera appends") == size
        for length in {*range(12, min(len(content), 400)), *range(400, len(content), 977), len(content) - 1}:
            with pytest.raises(Unsound):
                look(kind, content[:length])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_moves_is_refused(kind: str) -> None:
    with pytest.raises(Unsound, match="animated"):
        look(kind, animated(kind))


def test_every_flipped_bit_of_a_png_is_noticed() -> None:
    content = encoded("PNG", (6, 6))
    for bit in range(8 * 8, 8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Unsound):
            look("PNG", bytes(flipped))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([(kind, encoded(kind, mode=mode, **options)) for kind, mode, options in REAL]),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    st.integers(0, 1 << 20),
)
def test_nothing_but_a_refusal_comes_of_damage(
    picture: tuple[str, bytes], flips: list[tuple[int, int]], cut: int
) -> None:
    kind, content = picture
    damaged = bytearray(content)
    for at, value in flips:
        damaged[12 + at % (len(damaged) - 12)] = value
    try:
        width, height = look(kind, bytes(damaged[: max(12, len(damaged) - cut % len(damaged))]))
        assert width >= 0
        assert height >= 0
    except Unsound:
        pass


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_anything(kind: str, rest: bytes) -> None:
    start = {"PNG": SIGNATURE, "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF\x99\0\0\0WEBP"}[kind]
    for content in (start + rest, start + rest[:20] + b"VP8X" + rest, start + b"\xc0" + rest + b"\xff\xda" + rest):
        with contextlib.suppress(Unsound):
            look(kind, content)


class Counted:
    """zlib, counting the bytes that are inflated."""

    def __init__(self) -> None:
        self.bytes = 0
        self.error, self.crc32 = zlib.error, zlib.crc32

    def decompressobj(self) -> Counted:
        self._inner = zlib.decompressobj()
        return self

    def decompress(self, data: bytes, most: int) -> bytes:
        inflated = self._inner.decompress(data, most)
        self.bytes += len(inflated)
        return inflated


def test_texts_and_profiles_that_inflate_without_end_are_refused_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb, half = zlib.compress(bytes(100 << 20)), zlib.compress(bytes(MOST_INFLATED // 2 + 1))
    for chunks in (
        [chunk(b"zTXt", b"Comment\0\0" + bomb)],
        [chunk(b"iCCP", b"profile\0\0" + bomb)],
        [chunk(b"iTXt", b"Comment\0\1\0en\0words\0" + bomb)],
        [chunk(b"zTXt", b"Comment\0\0" + half)] * 9,
    ):
        monkeypatch.setattr(structure, "zlib", counted := Counted())
        with pytest.raises(Unsound, match="more than 4 MB"):
            look("PNG", png(8, 8, *chunks))
        assert counted.bytes <= MOST_INFLATED + 1
    plain = chunk(b"tEXt", b"a\0" + b"x" * 9_000_000) + chunk(b"iTXt", b"a\0\0\0\0\0" + b"x" * 9_000_000)
    assert look("PNG", png(8, 8, plain, chunk(b"zTXt", b"a\0\0" + half))) == (8, 8)


@pytest.mark.parametrize(
    "content",
    [
        SIGNATURE + bytes(40),
        png(8, 8, chunk(b"IHDR", bytes(13))),
        png(8, 8, chunk(b"IEND", b"")),
        png(8, 8, chunk(b"zTXt", b"no data")),
        png(8, 8, chunk(b"zTXt", b"a\0\0not deflated")),
        png(8, 8, chunk(b"iCCP", b"k" * 80 + b"\0\0" + zlib.compress(b"x"))),
        png(8, 8, chunk(b"teSt", b"") * MOST_PARTS),
    ],
)
def test_a_png_in_disorder_is_damaged(content: bytes) -> None:
    with pytest.raises(Unsound, match="damaged"):
        look("PNG", content)


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(data)) + data


FRAME = segment(0xC0, bytes((8, 0, 9, 0, 7, 1)) + bytes(3))


def test_a_jpeg_is_read_past_thumbnails_fill_bytes_and_ends_within_segments() -> None:
    thumbnail = b"Exif\0\0" + encoded("JPEG", (5, 5))
    content = b"\xff\xd8" + segment(0xE1, thumbnail) + b"\xff" * 9 + FRAME + segment(0xDA, bytes(6)) + b"\0\xff\0\1"
    with pytest.raises(Unsound, match="truncated"):
        look("JPEG", content)
    assert look("JPEG", content + b"\xff\xd9") == (7, 9)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xd9" + bytes(20),
        b"\xff\xd8\xff\xd8\xff\xe0" + bytes(20),
        b"\xff\xd8\xff\xe0\0\0" + bytes(20),
        b"\xff\xd8\xff\xe0\0\x04abno marker" + bytes(20),
        b"\xff\xd8" + segment(0xDA, bytes(6)) + FRAME + bytes(20),
        b"\xff\xd8" + segment(0xE0, b"") * MOST_SEGMENTS + FRAME + segment(0xDA, bytes(6)) + b"\xff\xd9",
        b"\xff\xd8" + FRAME + segment(0xDA, bytes(6)) * (MOST_SCANS + 1) + b"\xff\xd9",
    ],
)
def test_a_jpeg_in_disorder_or_with_scans_without_end_is_damaged(content: bytes) -> None:
    with pytest.raises(Unsound, match="damaged"):
        look("JPEG", content)


def test_the_end_of_a_jpeg_is_found_wherever_the_steps_of_the_search_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "_STEP", 7)
    for length in range(40):
        content = b"\xff\xd8" + FRAME + segment(0xDA, bytes(6)) + b"a" * length
        assert look("JPEG", content + b"\xff\xd9") == (7, 9)
        with pytest.raises(Unsound, match="truncated"):
            look("JPEG", content + b"\xff\0\xd9")
    scans = b"\xff\xd8" + FRAME + (segment(0xDA, bytes(6)) + b"abc") * MOST_SCANS + b"\xff\xd9"
    assert look("JPEG", scans) == (7, 9)


def test_a_webp_has_one_frame_of_the_size_that_it_says() -> None:
    content = bytearray(encoded("WEBP", (30, 20), exif=bytes(10)))
    assert content[12:16] == b"VP8X"
    content[24] += 1
    with pytest.raises(Unsound, match="damaged"):
        look("WEBP", bytes(content))
    empty = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10)
    with pytest.raises(Unsound, match="damaged"):
        look("WEBP", empty)


def test_large_noise_is_taken() -> None:
    """0xff and markers of every kind stand in coded data: none of them is taken for an end too early or too late."""
    noise = Image.frombytes("RGB", (512, 512), os.urandom(512 * 512 * 3))
    for kind, options in (("JPEG", {"quality": 100}), ("PNG", {}), ("WEBP", {"quality": 100})):
        file = io.BytesIO()
        noise.save(file, kind, **options)
        assert look(kind, file.getvalue()) == (512, 512)
        with pytest.raises(Unsound):
            look(kind, file.getvalue()[:-1])
