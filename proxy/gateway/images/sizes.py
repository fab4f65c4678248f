"""THE table of what a picture's parameters become: size, aspect_ratio and quality as `imageConfig`, the rest in words.

docs/openai-images.md has the same table, and a test holds the two together.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from proxy.errors import Hint
from proxy.gemini import hints
from proxy.gemini.image_models import ImageModel, Size

STANDARD_SIZES = ("1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792", "512x512", "256x256")
"""Those that OpenAI's clients name; any other WIDTHxHEIGHT within the bounds below is taken, too."""
LEAST_SIDE, MOST_SIDE, STEP, MOST_RATIO = 256, 3840, 16, 3
"""Bounds of a size, as OpenAI has them: sides in pixels, both divisible by STEP, one at most MOST_RATIO times the other
(openai-python 3.54, types/image_generate_params.py)."""

CLASSES: tuple[tuple[int, Size], ...] = ((500_000, "512"), (2_200_000, "1K"), (6_000_000, "2K"))
"""Pixels below which a size is of a class; above all of them it is 4K. A class is pixels, too: 1K is 1024 x 1024, or as
many in another ratio."""
_ORDER: tuple[Size, ...] = ("512", "1K", "2K", "4K")
NATIVE_SIZES: dict[str, Size] = {"512": "512", "0.5K": "512", "1K": "1K", "2K": "2K", "4K": "4K"}
"""Gemini's own words, which are taken as sizes, too."""

QUALITIES: dict[str, Size | None] = {
    "auto": None,
    "standard": None,
    "low": None,
    "medium": None,
    "high": "2K",
    "hd": "2K",
    "xhigh": "2K",
    "max": "2K",
}
"""The least class of size that a quality asks for: a model has no other quality than pixels."""

STYLES = {
    "vivid": "Style: vivid, hyper-real and dramatic, with strong colours.",
    "natural": "Style: natural, as a photograph would show it, not hyper-real.",
}
BACKGROUNDS = {
    "auto": "",
    "opaque": "The background is opaque.",
    "transparent": "Background: none. Show the subject alone on a plain white background that is easy to cut out.",
}
FIDELITIES = {
    "low": "",
    "high": "Keep faces, logos, writing and all fine details of the given pictures exactly as they are.",
}
MASKED = (
    "The last picture is a mask of the first one, of the same size. Change only what is white in the mask; leave what "
    "is black exactly as it is in the first picture, and don't show the mask."
)
"""What is said of a mask: the models have none of their own."""

_WIDTH_BY_HEIGHT = re.compile(r"([1-9][0-9]{2,3})x([1-9][0-9]{2,3})")
_RATIO = re.compile(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})")


class Shape(NamedTuple):
    """What goes up in `imageConfig`, None for what is left out; and where that is not what was wished for."""

    aspect_ratio: str | None
    image_size: Size | None
    differs: tuple[Hint, ...] = ()


def parse_size(size: str) -> tuple[int, int] | Size | None:
    """Width and height, or a class; None for "auto". Raises ValueError for a size that doesn't exist."""
    if size == "auto":
        return None
    if size in NATIVE_SIZES:
        return NATIVE_SIZES[size]
    found = _WIDTH_BY_HEIGHT.fullmatch(size)
    if found is None:
        raise ValueError(size)
    width, height = int(found[1]), int(found[2])
    legacy = size in STANDARD_SIZES
    if not legacy and (width % STEP or height % STEP or not _bounded(width) or not _bounded(height)):
        raise ValueError(size)
    if max(width, height) > MOST_RATIO * min(width, height):
        raise ValueError(size)
    return width, height


def _bounded(side: int) -> bool:
    return LEAST_SIDE <= side <= MOST_SIDE


def parse_ratio(ratio: str) -> tuple[int, int]:
    """Raises ValueError for what is none."""
    found = _RATIO.fullmatch(ratio)
    if found is None:
        raise ValueError(ratio)
    return int(found[1]), int(found[2])


def shape(size: str, aspect_ratio: str, quality: str, model: ImageModel) -> Shape:
    """What a wish becomes for a model. All three have been read; `aspect_ratio` is empty where none is asked for."""
    wanted = parse_size(size)
    ratio, differs = _ratio(wanted, aspect_ratio, model.ratios)
    asked = wanted if isinstance(wanted, str) else None if wanted is None else _class(*wanted)
    least = QUALITIES[quality]
    if least is not None and (asked is None or _ORDER.index(asked) < _ORDER.index(least)):
        explicit, asked = False, least
    else:
        explicit = asked is not None
    if asked in (None, "1K"):
        return Shape(ratio, None, differs)
    made = _nearest_size(asked, model.sizes)
    if made != asked and explicit:
        differs = (*differs, hints.hint("size-nearest", wish=asked, size=made or "1K"))
    return Shape(ratio, None if made == "1K" else made, differs)


def _class(width: int, height: int) -> Size:
    return next((name for most, name in CLASSES if width * height < most), "4K")


def _ratio(
    wanted: tuple[int, int] | Size | None, aspect_ratio: str, offered: tuple[str, ...]
) -> tuple[str | None, tuple[Hint, ...]]:
    if aspect_ratio:
        name, (width, height) = aspect_ratio, parse_ratio(aspect_ratio)
    elif isinstance(wanted, tuple):
        (width, height), name = wanted, "{}x{}".format(*wanted)
    else:
        return None, ()
    wish = math.log(width / height)
    found = min(offered, key=lambda ratio: abs(math.log(_value(ratio)) - wish))
    if math.isclose(_value(found), width / height):
        return found, ()
    return found, (hints.hint("ratio-nearest", wish=name, ratio=found),)


def _value(ratio: str) -> float:
    width, height = parse_ratio(ratio)
    return width / height


def _nearest_size(asked: Size, offered: tuple[Size, ...]) -> Size | None:
    """The largest that isn't larger, else the smallest; None where the model takes none."""
    smaller = [size for size in _ORDER if size in offered and _ORDER.index(size) <= _ORDER.index(asked)]
    return smaller[-1] if smaller else next((size for size in _ORDER if size in offered), None)


def words(style: str, background: str, input_fidelity: str) -> str:
    """What is said in words, after the prompt and the pictures; empty where there is nothing to say."""
    said = STYLES.get(style, ""), BACKGROUNDS.get(background, ""), FIDELITIES.get(input_fidelity, "")
    return " ".join(sentence for sentence in said if sentence)
