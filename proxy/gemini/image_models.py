"""What each image model offers: sizes and aspect ratios, and since when a retired one is gone, and for which other.

Google's image generation guide (https://ai.google.dev/gemini-api/docs/image-generation) and its changelog
(https://ai.google.dev/gemini-api/docs/changelog), as of 2026-11.
"""

from __future__ import annotations

from datetime import date
from typing import Literal, NamedTuple

Size = Literal["512", "1K", "2K", "4K"]

COMMON_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
"""Those that every image model takes."""
_ALL_RATIOS = (*COMMON_RATIOS, "1:4", "4:1", "1:8", "8:1")
_ALL_SIZES: tuple[Size, ...] = ("512", "1K", "2K", "4K")


class ImageModel(NamedTuple):
    """What a model takes in `imageConfig`."""

    sizes: tuple[Size, ...]
    """Empty where it takes no `imageSize` at all, and answers 400 to one; else 1K is what it makes by itself."""
    ratios: tuple[str, ...] = COMMON_RATIOS


class Retired(NamedTuple):
    """A model that Google has shut down."""

    on: date
    successor: str


UNKNOWN = ImageModel(("1K",))
"""What can be asked of a model that isn't in the table: what all of them have in common."""

_PRO = ImageModel(("1K", "2K", "4K"))

IMAGE_MODELS: dict[str, ImageModel] = {
    "gemini-nano-banana-2.1": ImageModel(_ALL_SIZES, _ALL_RATIOS),
    "gemini-3.1-flash-image": ImageModel(_ALL_SIZES, _ALL_RATIOS),
    "gemini-3.1-flash-lite-image": ImageModel(("1K",)),
    "gemini-3-pro-image": _PRO,
    "nano-banana-pro-preview": _PRO,
    "gemini-2.5-flash-image": ImageModel(()),
}

_PREVIEWS_ENDED = date(2026, 6, 25)
_RETIRED: dict[str, Retired] = {
    "gemini-2.5-flash-image": Retired(date(2026, 10, 2), "gemini-nano-banana-2.1"),
    "gemini-2.5-flash-image-preview": Retired(_PREVIEWS_ENDED, "gemini-nano-banana-2.1"),
    "gemini-3.1-flash-image-preview": Retired(_PREVIEWS_ENDED, "gemini-3.1-flash-image"),
    "gemini-3-pro-image-preview": Retired(_PREVIEWS_ENDED, "gemini-3-pro-image"),
}
RETIRED_IDS = tuple(_RETIRED)
"""Those that are known by name."""
_IMAGEN_4 = Retired(date(2026, 8, 17), "gemini-nano-banana-2.1")


def offers(model: str) -> ImageModel:
    """What a model takes, by its id without "models/"; of one that isn't known, the least."""
    return IMAGE_MODELS.get(model, UNKNOWN)


def retired(model: str) -> Retired | None:
    """When an image model was shut down, and what Google has in its place; None for one that wasn't, or isn't known."""
    return _IMAGEN_4 if model.startswith("imagen-4.0-") else _RETIRED.get(model)
