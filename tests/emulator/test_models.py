"""The catalogue."""

from __future__ import annotations

import pytest

from proxy.emulator.models import MODELS


@pytest.mark.parametrize(
    ("model", "ratio", "size", "pixels", "tokens"),
    [
        ("gemini-nano-banana-2.1", "16:9", "1K", (1376, 768), 1120),
        ("gemini-nano-banana-2.1", "1:1", "4K", (4096, 4096), 3780),
        ("gemini-nano-banana-2.1", "8:1", "512", (1536, 192), 400),
        ("gemini-3.1-flash-image", "3:4", "512", (448, 600), 747),
        ("gemini-3.1-flash-image", "21:9", "2K", (3168, 1344), 1680),
        ("gemini-3-pro-image", "2:3", "4K", (3392, 5056), 2000),
        ("gemini-2.5-flash-image", "16:9", "1K", (1344, 768), 1290),
    ],
)
def test_pictures_have_googles_dimensions_and_tokens(
    model: str, ratio: str, size: str, pixels: tuple[int, int], tokens: int
) -> None:
    assert MODELS[model].size(ratio, size) == pixels
    assert MODELS[model].image_tokens[size] == tokens


@pytest.mark.parametrize(
    ("model", "ratio", "size"),
    [
        ("gemini-3-pro-image", "1:8", "1K"),
        ("gemini-3-pro-image", "1:1", "512"),
        ("gemini-3.1-flash-lite-image", "1:1", "2K"),
    ],
)
def test_what_a_model_does_not_offer_has_no_size(model: str, ratio: str, size: str) -> None:
    with pytest.raises(KeyError):
        MODELS[model].size(ratio, size)


def test_every_successor_answers_itself() -> None:
    assert all(MODELS[model.version].version == model.version for model in MODELS.values())


def test_a_described_model_names_its_methods() -> None:
    assert MODELS["gemini-embedding-2"].described()["supportedGenerationMethods"] == [
        "embedContent",
        "batchEmbedContents",
        "countTokens",
    ]
    assert MODELS["gemini-3.8-flash"].described()["thinking"] is True
