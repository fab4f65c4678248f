"""Bodies made to cost much: how much of them is gone over, copied, and made into objects."""

from __future__ import annotations

import json
import mmap
import tempfile
import tracemalloc
from typing import Any

import pytest

from proxy.gemini.bodies import look
from tests.gemini.test_bodies import HOSTS, PICTURE, asks


class Counted(bytes):
    """Bytes that count how many of them are gone over or copied in slices."""

    gone_over = 0

    def isascii(self) -> bool:
        self.gone_over += len(self)
        return super().isascii()

    def __getitem__(self, key: Any) -> Any:
        self.gone_over += len(range(*key.indices(len(self)))) if isinstance(key, slice) else 1
        return super().__getitem__(key)


@pytest.mark.parametrize("rest", ["", "\u00e9"])
def test_a_thousand_pieces_of_inline_data_are_gone_over_twice_at_most(rest: str) -> None:
    body = Counted(json.dumps(asks(rest, *["A" * 2000] * 900), ensure_ascii=False).encode())
    assert look(body, "generateContent", "m", HOSTS).inline_pictures == 900
    assert body.gone_over <= 2.2 * len(body)


def peak(body: bytes | mmap.mmap) -> int:
    """Bytes of memory that a look takes."""
    tracemalloc.start()
    try:
        look(body, "generateContent", "m", HOSTS)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pictures", [0, 2])
def test_text_of_any_length_takes_little_memory(pictures: int) -> None:
    body = json.dumps(asks("t" * 12_000_000 + "\U0001f388", *[PICTURE] * pictures), ensure_ascii=False).encode()
    assert peak(body) < 2_500_000
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert peak(view) < 2_500_000


@pytest.mark.parametrize("at", ["%b", '{"imageConfig": %b}', '{"imageConfig": {"imageSize": %b}}', '{"x": %b}'])
def test_settings_of_any_length_are_not_made_into_objects(at: str) -> None:
    body = b'{"generationConfig": %b}' % at.encode().replace(b"%b", b"[" + b"[]," * 300_000 + b"[]]")
    assert peak(body) < 2_500_000, "2 MB are two pieces searched and folded"
