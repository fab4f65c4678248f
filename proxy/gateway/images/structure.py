"""The structure of PNG, JPEG and WebP files: how large the picture is, whether the file is whole. Makes no pixel.

What is looked at is what each format's definition gives its files: PNG (RFC 2083, section 3) chunks with checksums,
JPEG (ITU-T T.81, annex B) marker segments up to an end marker, WebP (RFC 9649, section 2) RIFF chunks.
"""

from __future__ import annotations

import re
import struct
import zlib

MOST_PARTS = 32_768
"""Chunks of a file: encoders write 8 KB and more in each."""
MOST_SEGMENTS = 4096
"""Of a JPEG before its picture: colour profiles take 255 at most."""
MOST_SCANS = 128
"""Of a progressive JPEG, each of which its decoder goes over all pixels for: encoders make 10 or so."""
MOST_INFLATED = 4 << 20
"""Bytes that the compressed texts and colour profiles of a PNG may have together."""

_CHUNK, _RIFF = struct.Struct(">I4s"), struct.Struct("<4sI")
_SCAN_OR_END = re.compile(b"\xff[\xd9\xda]")
"""Nothing else in a JPEG's coded data: each 0xff of the data itself is followed by a zero."""
_FILL = re.compile(b"\xff*")
"""What stands before a JPEG's marker, once or more."""
_STEP = 1 << 20
"""Bytes that are searched in one go, which no other thread can interrupt."""


class Unsound(ValueError):
    """A picture that isn't taken. The message completes a sentence that begins with what the picture is."""


def truncated() -> Unsound:
    return Unsound("is truncated: it ends before the picture does. Send the whole file.")


def damaged() -> Unsound:
    return Unsound("is damaged, or isn't made as its format wants it: save it anew, as a PNG or a JPEG.")


def animated() -> Unsound:
    return Unsound("is animated: send one of its frames, as a still picture.")


def png_size(view: memoryview) -> tuple[int, int]:
    if len(view) < 33:
        raise truncated()
    if bytes(view[8:16]) != b"\0\0\0\x0dIHDR":
        raise damaged()
    width, height = struct.unpack_from(">II", view, 16)
    return width, height


def check_png(view: memoryview) -> None:
    """Every chunk's checksum, and what the compressed ones inflate to, as far as that is bounded."""
    at, inflated, pixels = 8, 0, False
    for number in range(MOST_PARTS):
        if at + 12 > len(view):
            raise truncated()
        length, name = _CHUNK.unpack_from(view, at)
        end = at + 12 + length
        if end > len(view):
            raise truncated()
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise damaged()
        if name == b"IEND" and pixels:
            return
        if name == b"acTL":
            raise animated()
        if name == b"IEND" or (name == b"IHDR") is not (number == 0):
            raise damaged()
        pixels = pixels or name == b"IDAT"
        if name in _INFLATED:
            inflated += _inflated(name, bytes(view[at + 8 : end - 4]), MOST_INFLATED - inflated)
        at = end
    raise damaged()


_INFLATED = frozenset({b"zTXt", b"iTXt", b"iCCP"})


def _inflated(name: bytes, data: bytes, most: int) -> int:
    """How many bytes a chunk's compressed part has when inflated. Raises Unsound where it is more than `most`."""
    keyword, _, rest = data.partition(b"\0")
    if name == b"iTXt":
        if rest[:1] != b"\1":
            return 0
        rest = rest[1:2] + rest[2:].split(b"\0", 2)[-1]
    if len(keyword) > 79 or len(rest) < 2:
        raise damaged()
    try:
        length = len(zlib.decompressobj().decompress(rest[1:], most + 1))
    except zlib.error:
        raise damaged() from None
    if length > most:
        raise Unsound(
            f"has compressed texts or a colour profile of more than {MOST_INFLATED >> 20} MB: save it without metadata."
        )
    return length


def jpeg_size(view: memoryview) -> tuple[int, int]:
    height, width = struct.unpack_from(">HH", view, _jpeg_segment(view, _FRAMES) + 3)
    return width, height


def check_jpeg(view: memoryview) -> None:
    scans = 1
    for start in range(_jpeg_segment(view, _SCAN), len(view), _STEP):
        for found in _SCAN_OR_END.finditer(view, start, start + _STEP + 1):
            if view[found.start() + 1] == 0xD9:
                return
            scans += 1
            if scans > MOST_SCANS:
                raise damaged()
    raise truncated()


def _jpeg_segment(view: memoryview, wanted: frozenset[int]) -> int:
    """Where the first segment with such a marker begins. At least 8 bytes stand there."""
    at = 2
    for _ in range(MOST_SEGMENTS):
        first, at = at, _FILL.match(view, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if at + 9 > len(view):
            raise truncated()
        marker, length = view[at], int.from_bytes(view[at + 1 : at + 3], "big")
        if at == first or (marker not in wanted and marker in _NO_SEGMENT) or length < 2:
            raise damaged()
        if marker in wanted:
            return at + 1
        at += 1 + length
    raise damaged()


_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15, without those that define tables."""
_SCAN = frozenset({0xDA})
_NO_SEGMENT = frozenset({0x00, 0x01, *range(0xD0, 0xDB)})
"""Stuffing, restart, start and end of the image, and a scan: none of them stands before the frame."""


def webp_size(view: memoryview) -> tuple[int, int]:
    if bytes(view[12:16]) != b"VP8X":
        return _webp_frame(bytes(view[12:16]), bytes(view[20:30]))
    if len(view) < 30:
        raise truncated()
    return 1 + int.from_bytes(view[24:27], "little"), 1 + int.from_bytes(view[27:30], "little")


def _webp_frame(kind: bytes, start: bytes) -> tuple[int, int]:
    """Width and height in the first 10 bytes of a VP8 or VP8L chunk's data."""
    if kind == b"VP8 " and len(start) >= 10 and start[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", start, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(start) >= 5 and start[0] == 0x2F:
        bits = int.from_bytes(start[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise truncated() if len(start) < 10 else damaged()


def check_webp(view: memoryview) -> None:
    """That all of its chunks are there, and one frame of the size that the file says."""
    size = webp_size(view)
    end = 8 + int.from_bytes(view[4:8], "little")
    if end > len(view):
        raise truncated()
    at, frame = 12, None
    for _ in range(MOST_PARTS):
        if at + 8 > end:
            break
        kind, length = _RIFF.unpack_from(view, at)
        if kind in (b"ANIM", b"ANMF"):
            raise animated()
        if at + 8 + length > end:
            raise truncated()
        if kind in (b"VP8 ", b"VP8L") and frame is None:
            frame = _webp_frame(kind, bytes(view[at + 8 : at + 8 + min(length, 10)]))
        at += 8 + length + (length & 1)
    if frame != size:
        raise damaged()
