"""A mistake in an image model's settings is told where it is certain: each beside its nearest that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.errors import Hint
from proxy.gemini import bodies
from proxy.gemini.aliases import Aliases
from tests.gemini.test_bodies import asks

NANO, PRO, LITE, OLD = (
    "gemini-nano-banana-2.1",
    "gemini-3-pro-image",
    "gemini-3.1-flash-lite-image",
    "gemini-2.5-flash-image",
)


def told(model: str, config: dict[str, Any], aliases: Aliases | None = None) -> Hint | None:
    """What is told of a body with these settings, by way of all that looks at it."""
    outline = bodies.skim(json.dumps(asks("a cat", generationConfig=config)).encode())
    return outline.read("generateContent", model, frozenset(), aliases=aliases).hint


def image(**config: object) -> dict[str, Any]:
    return {"imageConfig": config}


@pytest.mark.parametrize(
    ("model", "config", "name", "says"),
    [
        (NANO, {"responseModalities": ["TEXT"]}, "no-image-modality", '["TEXT", "IMAGE"]'),
        (PRO, {"response_modalities": ["text", 1]}, "no-image-modality", "IMAGE"),
        (OLD, image(imageSize="1K"), "no-sizes", "ask for gemini-nano-banana-2.1"),
        (OLD, {"image_config": {"image_size": "4K"}}, "no-sizes", "takes no imageSize"),
        (NANO, image(imageSize="2k"), "size-in-capitals", "capital K"),
        (NANO, {"responseFormat": {"image": {"imageSize": "4k"}}}, "size-in-capitals", "capital K"),
        (NANO, image(imageSize="8K"), "size-not-offered", "imageSize: 512, 1K, 2K, 4K."),
        (NANO, image(imageSize="1024x1024"), "size-not-offered", "512, 1K, 2K, 4K."),
        (PRO, image(imageSize="512"), "size-not-offered", "gemini-3-pro-image takes these as imageSize: 1K, 2K, 4K."),
        (LITE, image(imageSize="4k"), "size-not-offered", "imageSize: 1K."),
        (PRO, image(aspectRatio="1:8"), "ratio-not-offered", "16:9, 21:9."),
        (NANO, image(aspect_ratio="7:4"), "ratio-not-offered", "4:1, 1:8, 8:1."),
        (NANO, image(aspectRatio="<b>", imageSize="4K"), "ratio-not-offered", "1:1"),
        (NANO, {"candidateCount": 3}, "one-candidate", "once for each picture"),
        (NANO, image(imageSize="9K", aspectRatio="7:4") | {"candidateCount": 3}, "size-not-offered", "512"),
    ],
)
def test_a_plain_mistake_is_told(model: str, config: dict[str, Any], name: str, says: str) -> None:
    found = told(model, config)
    assert found is not None
    assert found.name == name
    assert says in found.sentence


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (NANO, {}),
        (NANO, {"responseModalities": []}),
        (NANO, {"responseModalities": None}),
        (NANO, {"responseModalities": "TEXT"}),
        (NANO, {"responseModalities": ["TEXT"] * 17}),
        (NANO, {"responseModalities": ["TEXT", "IMAGE"]}),
        (PRO, {"responseModalities": ["Image"]}),
        (PRO, {"responseModalities": [2]}),
        (OLD, image(aspectRatio="21:9")),
        (OLD, image(imageSize=None)),
        (NANO, image(imageSize="0.5K", aspectRatio="8:1")),
        (NANO, image(imageSize=512)),
        (NANO, image(imageSize="")),
        (PRO, image(imageSize="4K", aspectRatio="21:9")),
        (NANO, image(aspectRatio=169)),
        (NANO, {"imageConfig": "4K"}),
        (NANO, {"candidateCount": 1}),
        ("gemini-3.8-flash", image(imageSize="9K") | {"responseModalities": ["TEXT"], "candidateCount": 3}),
        ("gemini-4-flash-image", image(imageSize="9K", aspectRatio="7:4") | {"responseModalities": ["TEXT"]}),
        ("", image(imageSize="9K")),
    ],
)
def test_what_is_right_or_not_certain_is_not_told(model: str, config: dict[str, Any]) -> None:
    assert told(model, config) is None


def test_what_counts_is_the_model_that_goes_up() -> None:
    """An alias of a model without sizes leads to one that has them, and the other way round."""
    aliases = Aliases({OLD: NANO, "text": OLD}.get, ())  # type: ignore[arg-type]  # asked for these two alone
    assert told(OLD, image(imageSize="1K"), aliases) is None
    assert told("text", image(imageSize="1K"), aliases) is not None


def test_settings_too_long_to_be_decoded_whole_are_looked_at_all_the_same() -> None:
    """A long schema beside them is stepped over."""
    config = image(aspectRatio="7:4") | {"responseSchema": {"description": "x" * 5000}}
    found = told(NANO, config)
    assert found is not None
    assert found.name == "ratio-not-offered"
