"""Hints on what a request's body shows: what a model that draws would refuse, or not draw for."""

from __future__ import annotations

from typing import Any

from proxy.errors import Hint
from proxy.gemini import generation
from proxy.gemini.hints import hint
from proxy.gemini.image_models import IMAGE_MODELS, ImageModel, retired

_RATIO = "aspectRatio", "aspect_ratio"


def of_settings(model: str, settings: Any, candidates: int, *, asks_images: bool) -> Hint | None:
    """The mistake in a `generationConfig` that is known of the model that goes up; None where there is none.

    `settings`: what `generation.find` or `of` gave; `candidates` and `asks_images` what was read of them. Costs one
    look-up for models that aren't known to draw.
    """
    known = IMAGE_MODELS.get(model)
    if known is None:
        return None
    image = generation.image_config(settings)
    found = of_image_config(model, known, image) if isinstance(image, dict) else None
    if found is not None:
        return found
    kinds = generation.member(settings, "responseModalities", "response_modalities")
    if not asks_images and isinstance(kinds, list) and 0 < len(kinds) <= generation.MAX_MODALITIES:
        return hint("no-image-modality")
    return hint("one-candidate") if candidates > 1 else None


def of_image_config(model: str, known: ImageModel, image: dict[str, Any]) -> Hint | None:
    """The mistake in an `imageConfig`."""
    size, ratio = generation.member(image, "imageSize", "image_size"), generation.member(image, *_RATIO)
    if isinstance(size, str) and size and (found := _of_size(model, known, size)):
        return found
    return of_ratios(model, known) if isinstance(ratio, str) and ratio and ratio not in known.ratios else None


def of_ratios(model: str, known: ImageModel) -> Hint:
    """Which ratios it takes."""
    return hint("ratio-not-offered", model=model, ratios=", ".join(known.ratios))


def of_sizes(model: str, known: ImageModel) -> Hint:
    """Which sizes it takes."""
    if known.sizes:
        return hint("size-not-offered", model=model, sizes=", ".join(known.sizes))
    gone = retired(model)
    return hint("no-sizes", model=model, successor=gone.successor if gone else "another model")


def _of_size(model: str, known: ImageModel, size: str) -> Hint | None:
    if generation.size(size) not in known.sizes:
        return of_sizes(model, known)
    return hint("size-in-capitals") if size.endswith("k") else None
