"""The table of image models: what the front asks for by it must be what the model answers 200 to."""

from __future__ import annotations

import pytest

from proxy.billing.prices import PriceBook
from proxy.emulator.models import MODELS
from proxy.gemini import image_models
from proxy.gemini.image_models import IMAGE_MODELS


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_what_is_offered_is_what_the_model_makes(name: str) -> None:
    """Sizes and ratios are among those of the stand-in for Google, and every size has its tokens in the price book."""
    offered, there, book = IMAGE_MODELS[name], MODELS[name], PriceBook.load()
    assert set(offered.ratios) <= there.pixels.keys()
    table = book.rates_at(name, 0)
    assert table is not None
    for size in offered.sizes:
        assert there.sized
        assert table.image_tokens(size) == there.image_tokens[size]


def test_a_retired_model_names_one_that_serves() -> None:
    """Nobody is sent from one shut door to another."""
    for name in ("gemini-2.5-flash-image", "gemini-3-pro-image-preview", "imagen-4.0-ultra-generate-001"):
        retired = image_models.retired(name)
        assert retired is not None
        assert retired.successor in IMAGE_MODELS
        assert image_models.retired(retired.successor) is None
    assert image_models.retired("gemini-3-pro-image") is None


def test_of_an_unknown_model_only_what_all_have_is_asked() -> None:
    """A ratio that one model lacks isn't sent to a model that nobody knows."""
    assert image_models.offers("own-image-model").sizes == ("1K",)
    assert all(set(image_models.offers("x").ratios) <= set(model.ratios) for model in IMAGE_MODELS.values())
