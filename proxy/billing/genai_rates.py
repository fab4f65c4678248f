"""Google's models in genai-prices, for those that the price book lacks: their rates, and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from proxy.billing.price_book import Model, Period, nano_dollars, starts

Matcher = Callable[[str], bool]

# Words that make a model another kind of thing: genai-prices goes by prefixes, and would price an image model to come,
# gemini-3.8-flash-image, as gemini-3.8-flash: ten times too low.
_KINDS = frozenset(
    ("image", "tts", "live", "audio", "video", "embedding", "lite", "pro", "omni", "robotics", "computer")
)
GENAI_NAMES = {
    "input_mtok": "input_text",
    "input_image_mtok": "input_image",
    "input_audio_mtok": "input_audio",
    "input_video_mtok": "input_video",
    "cache_read_mtok": "cached_text",
    "cache_audio_read_mtok": "cached_audio",
    "output_mtok": "output_text",
    "output_image_mtok": "output_image",
    "output_audio_mtok": "output_audio",
    "output_video_mtok": "output_video",
}


def read_genai_prices() -> tuple[tuple[Matcher, Model], ...]:
    """Google's models in genai-prices, with the test that says whether a name is theirs.

    Only rates are taken: its mapping of usage bills image output without details at the text rate.
    """
    from genai_prices.data import providers  # here, because it takes 0.3 s

    source = f"genai-prices {version('genai-prices')}"
    google = next(provider for provider in providers if provider.id == "google")
    found = []
    for info in google.models:
        model = _genai_model(info, source)
        if model is not None:
            found.append((_matcher(info), model))
    return tuple(found)


def _matcher(info: Any) -> Matcher:
    def matches(name: str) -> bool:
        rest = name.lower().removeprefix(info.id)
        other_kind = rest != name.lower() and not _KINDS.isdisjoint(rest.split("-"))
        return info.is_match(name) and not other_kind

    return matches


def _genai_model(info: Any, source: str) -> Model | None:
    """None where it lists no input rate (gemma, free today), or one that we can't read: then the model has no price."""
    rows = info.prices if isinstance(info.prices, list) else [info]
    periods = []
    long_above = None
    for row in rows:
        since = getattr(getattr(row, "constraint", None), "start_date", None)
        standard: dict[str, int] = {}
        long: dict[str, int] = {}
        for key, value in vars(row.prices).items():
            tiers = getattr(value, "tiers", ())
            if value is None or len(tiers) > 1:
                continue
            name, per = ("search", 1000) if key == "web_searches_kcount" else (GENAI_NAMES.get(key), 1)
            if name is not None:
                standard[name] = nano_dollars(getattr(value, "base", value), per)
                if tiers:
                    long_above = tiers[0].start
                    long[name] = nano_dollars(tiers[0].price, per)
        if "tts" in info.id.split("-") and "output_text" in standard:
            standard["output_audio"] = standard["output_text"]
        periods.append(Period(starts(since), standard, long))
    if not all("input_text" in period.standard for period in periods):
        return None
    search_per = "prompt" if info.id.startswith(("gemini-1", "gemini-2", "gemini-live-2")) else "query"
    sources = (info.price_comments,) if info.price_comments else ()
    return Model(info.id, source, tuple(periods), long_above=long_above, search_per=search_per, sources=sources)
