"""The catalogue: which models answer, what each can do, and how large and how dear in tokens its pictures are.

Image sizes, ratios and tokens: Google's image-generation page and its token tables; ids and aliases: its changelog.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Pixels of a 1K picture by aspect ratio; 512 is half of it, 2K twice, 4K four times.
PIXELS_1K: dict[str, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
    "1:4": (512, 2048),
    "4:1": (2048, 512),
    "1:8": (384, 3072),
    "8:1": (3072, 384),
}
# gemini-2.5-flash-image has a table of its own, and no sizes.
PIXELS_25: dict[str, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
}
PIXELS_10 = {ratio: PIXELS_1K[ratio] for ratio in PIXELS_25}
SCALE = {"512": 0.5, "1K": 1.0, "2K": 2.0, "4K": 4.0}

GENERATE = ("generateContent", "streamGenerateContent", "countTokens")
EMBED = ("embedContent", "batchEmbedContents", "countTokens")


@dataclass(frozen=True)
class Model:
    """One model. `version` is what it reports as modelVersion: its own id, or that of its successor."""

    id: str
    version: str
    methods: tuple[str, ...] = GENERATE
    image_tokens: dict[str, int] = field(default_factory=dict)
    """Tokens of one picture by imageSize; empty for models that draw none."""
    pixels: dict[str, tuple[int, int]] = field(default_factory=dict)
    sized: bool = True
    """Takes imageSize at all."""
    reference_tokens: int = 258
    """Tokens of one picture in the prompt."""
    media_type: str = "image/jpeg"
    dimensions: int = 0
    """Length of an embedding."""
    thinks: bool = True

    @property
    def draws(self) -> bool:
        return bool(self.pixels)

    def size(self, aspect_ratio: str, image_size: str) -> tuple[int, int]:
        """Width and height in pixels. KeyError for what the model doesn't offer."""
        width, height = self.pixels[aspect_ratio]
        self.image_tokens[image_size]
        return round(width * SCALE[image_size]), round(height * SCALE[image_size])

    def described(self) -> dict[str, Any]:
        """The model as models.list and models.get show it."""
        embeds = self.dimensions > 0
        return {
            "name": f"models/{self.id}",
            "version": "001",
            "displayName": self.id.replace("-", " ").title(),
            "description": f"Emulated {self.id}.",
            "inputTokenLimit": 8192 if embeds else 65536 if self.draws else 1048576,
            "outputTokenLimit": 1 if embeds else 32768 if self.draws else 65536,
            "supportedGenerationMethods": list(self.methods),
        } | (
            {} if embeds else {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2, "thinking": self.thinks}
        )


def _image(name: str, tokens: dict[str, int], *, version: str = "", ten: bool = False, reference: int = 1120) -> Model:
    ratios = PIXELS_10 if ten else PIXELS_1K
    return Model(name, version or name, image_tokens=tokens, pixels=ratios, reference_tokens=reference)


_NANO = {"512": 400, "1K": 1120, "2K": 1680, "4K": 3780}
_FLASH = {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520}
_PRO = {"1K": 1120, "2K": 1120, "4K": 2000}


def _flash_25(name: str) -> Model:
    return Model(
        name,
        "gemini-2.5-flash-image",
        image_tokens={"1K": 1290},
        pixels=PIXELS_25,
        sized=False,
        media_type="image/png",
        thinks=False,
    )


def _text(name: str, version: str = "") -> Model:
    return Model(name, version or name)


def _embedding(name: str) -> Model:
    return Model(name, name, methods=EMBED, dimensions=3072, thinks=False)


MODELS: dict[str, Model] = {
    model.id: model
    for model in (
        _image("gemini-nano-banana-2.1", _NANO),
        _image("gemini-3.1-flash-image", _FLASH),
        _image("gemini-3.1-flash-image-preview", _FLASH, version="gemini-3.1-flash-image"),
        _image("gemini-3.1-flash-lite-image", {"1K": 1120}),
        _image("gemini-3-pro-image", _PRO, ten=True, reference=560),
        _image("gemini-3-pro-image-preview", _PRO, version="gemini-3-pro-image", ten=True, reference=560),
        _image("nano-banana-pro-preview", _PRO, version="gemini-3-pro-image", ten=True, reference=560),
        _flash_25("gemini-2.5-flash-image"),
        _flash_25("gemini-2.5-flash-image-preview"),
        _text("gemini-4-carbon"),
        _text("gemini-4-argon"),
        _text("gemini-4-hydrogen"),
        _text("gemini-3.8-flash"),
        _text("gemini-flash-latest", "gemini-3.8-flash"),
        _text("gemini-3.7-flash", "gemini-3.8-flash"),
        _text("gemini-3.6-flash"),
        _text("gemini-3.5-flash", "gemini-3.6-flash"),
        _text("gemini-3.5-flash-lite"),
        _text("gemini-3.1-flash-lite"),
        _text("gemini-3.1-pro-preview"),
        _text("gemini-pro-latest", "gemini-3.1-pro-preview"),
        _text("gemini-2.5-pro"),
        _text("gemini-2.5-flash"),
        _embedding("gemini-embedding-2"),
        _embedding("gemini-embedding-001"),
    )
}
