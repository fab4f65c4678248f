"""Google's models in genai-prices, for those that the price book lacks: their rates, and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from proxy.billing.price_book import (
    MOST_USD,
    MOST_USD_PER_1000,
    PER_1000,
    Model,
    Period,
    nano_dollars,
    starts,
    stated,
)

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
    """Google's models in the genai-prices that is installed, with the test that says whether a name is theirs.

    Only rates are taken: its mapping of usage bills image output without details at the text rate.
    """
    from genai_prices.data import providers  # here, because it takes 0.3 s

    google = next(provider for provider in providers if provider.id == "google")
    return _models(google, f"genai-prices {version('genai-prices')}")


def read_genai_data(raw: object, source: str) -> tuple[tuple[Matcher, Model], ...]:
    """Google's models in genai-prices' data, as its project publishes it: a list of providers, decoded from JSON.

    `source` is how the ledger will name it. Raises ValueError.
    """
    from genai_prices.types import _providers_from_raw  # what its own updater reads the data with

    try:
        (google,) = _providers_from_raw([google_of(raw)])
    except ValueError as error:
        raise ValueError(f"it is not in the form of genai-prices' data: {str(error).splitlines()[0]}") from None
    found = _models(google, source)
    if not found:
        raise ValueError("it has no price of any of Google's models")
    for _, model in found:
        _check(model)
    return found


def google_of(raw: object) -> dict[str, Any]:
    """Google's entry in a list of providers. Raises ValueError."""
    listed = [entry for entry in raw if isinstance(entry, dict)] if isinstance(raw, list) else []
    found = [entry for entry in listed if entry.get("id") == "google"]
    if len(found) != 1:
        raise ValueError("it is no list of providers with Google among them, once")
    return found[0]


def _check(model: Model) -> None:
    for period in model.periods:
        for name, rate in (*period.standard.items(), *period.long.items()):
            if Decimal(stated(name, rate)[1]) > (most := MOST_USD_PER_1000 if name in PER_1000 else MOST_USD):
                raise ValueError(f"{name} of {model.id} is more than {most:,} USD")


def _models(google: Any, source: str) -> tuple[tuple[Matcher, Model], ...]:
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
