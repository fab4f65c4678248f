"""Pictures."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from proxy.emulator.errors import ApiError
from proxy.emulator.pictures import Picture, PictureCache

SMALL = Picture(512, 288, "a red lorry", 2, 0, "image/jpeg")


def _opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize(("media_type", "kind"), [("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/webp", "WEBP")])
def test_a_picture_has_the_size_and_the_format_asked_for(media_type: str, kind: str) -> None:
    image = _opened(PictureCache().file(replace(SMALL, media_type=media_type)))
    assert (image.size, image.format) == ((512, 288), kind)


def test_the_same_picture_is_the_same_file_and_others_differ() -> None:
    file = PictureCache().file(SMALL)
    assert PictureCache().file(SMALL) == file
    others = (replace(SMALL, index=1), replace(SMALL, references=3), replace(SMALL, prompt="a blue lorry"))
    assert len({file, *map(PictureCache().file, others)}) == 4


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
@pytest.mark.parametrize("beyond", [12, 13, 65_537, 65_538, 65_541, 65_544, 131_074, 200_000])
def test_a_padded_picture_has_exactly_the_bytes_asked_for_and_the_same_pixels(media_type: str, beyond: int) -> None:
    plain = PictureCache().file(replace(SMALL, media_type=media_type))
    padded = PictureCache().file(replace(SMALL, media_type=media_type, file_size=len(plain) + beyond))
    assert len(padded) == len(plain) + beyond
    assert _opened(padded).tobytes() == _opened(plain).tobytes()


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
def test_fewer_bytes_than_a_picture_takes_are_refused(media_type: str) -> None:
    with pytest.raises(ApiError, match="takes at least"):
        PictureCache().file(replace(SMALL, media_type=media_type, file_size=100))


def test_a_small_cache_forgets_the_oldest_and_keeps_nothing_large() -> None:
    size = len(PictureCache().file(SMALL))
    cache = PictureCache(kept_bytes=size * 5)
    first = cache.file(SMALL)
    assert cache.file(SMALL) is first
    large = replace(SMALL, file_size=size * 2)
    assert cache.file(large) is not cache.file(large)
    for index in range(1, 8):
        cache.file(replace(SMALL, index=index))
    assert cache.file(SMALL) is not first
