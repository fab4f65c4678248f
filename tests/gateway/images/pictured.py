"""Pictures for tests, good and bad, made as they are needed."""

from __future__ import annotations

import io
import random
import struct
import zlib

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(kind: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    """A picture of noise, so that its file has a body; the same each time."""
    noise = Image.frombytes("L", size, random.Random(7).randbytes(size[0] * size[1]))
    return saved(noise.convert(mode), kind, **options)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *more: bytes, data: bytes | None = None) -> bytes:
    """A gray PNG of one bit a pixel, all black, with more chunks before its pixels."""
    rows = bytes((1 + (width + 7) // 8) * height) if data is None else data
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return SIGNATURE + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])
