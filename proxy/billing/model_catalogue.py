"""The catalogue of models: what may be asked for, what it costs, and which pictures it makes; as JSON has it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from proxy.billing import price_book
from proxy.billing.price_book import Rates
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import RateTable, divide_half_even
from proxy.billing.records import to_rfc3339, to_usd
from proxy.gemini import image_models

OWNER = "google"
_PRICES = ("rates", "long_above", "long_rates", "next_change", "next_rates", "priced_as", "price_source")


class Entry(NamedTuple):
    """One name, and all that is told of it. Ids are without "models/"."""

    id: str
    """As callers ask for it."""
    used: str
    """The model that answers: another one where that stands in for it."""
    priced: bool
    document: dict[str, Any]
    """In the shape of OpenAI's `Model` (openai-python 3.54, types/model.py), ours under "x_weighbridge"."""


class ModelCatalogue:
    """What can be asked for by name under one configuration."""

    def __init__(self, book: PriceBook, used: Callable[[str], str], aliases: Iterable[str]) -> None:
        """`used` tells the model that a caller gets who asks for one; `aliases` are those that aren't globs."""
        self._book = book
        self._alias = used
        self._names = tuple(dict.fromkeys((*book.models(), *aliases, *image_models.RETIRED_IDS)))
        self._entries: tuple[int, tuple[Entry, ...]] = (-1, ())
        self._created = price_book.starts(book.made_on) // 1_000_000

    def entries(self, at: int) -> tuple[Entry, ...]:
        """All that has a name of its own, as it stands at `at` (Unix microseconds): models that make pictures first.
        Made anew only where a rate has changed."""
        interval, made = bisect_right(self._book.changes, at), self._entries
        if made[0] != interval:
            found = (self._entry(name, at) for name in self._names)
            made = self._entries = interval, tuple(sorted(found, key=_makes_no_pictures))
        return made[1]

    def find(self, name: str, at: int) -> Entry | None:
        """What is known of `name`, also where only a glob or genai-prices' data know it; None where nothing does."""
        known = name in self._names or self._alias(name) != name or image_models.retired(name)
        return self._entry(name, at) if known or self._book.knows(name, at) else None

    def used(self, name: str) -> str:
        """The model that answers who asks for `name` in OpenAI's shape: an alias counts before what is retired."""
        used = self._alias(name)
        retired = image_models.retired(used)
        return self._alias(retired.successor) if retired else used

    def _entry(self, name: str, at: int) -> Entry:
        alias, used = self._alias(name), self.used(name)
        retired = image_models.retired(alias)
        shut_down = None if retired is None else retired.on.isoformat()
        table = self._book.rates_at(used, at)
        priced = table is not None and "input_text" in table.rates
        ours: dict[str, Any] = {
            "answered_by": used,
            "alias_of": None if alias == name else alias,
            "retired": retired and {"on": shut_down, "successor": retired.successor},
            **self._prices(used, table, at),
            "images": images(used, table) if table is not None and table.is_image_model else None,
        }
        document = {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": OWNER,
            "shutdown_date": shut_down,
            "x_weighbridge": ours,
        }
        return Entry(name, used, priced, document)

    def _prices(self, used: str, table: RateTable | None, at: int) -> dict[str, Any]:
        """Rates in the standard tier; null each where the model has none."""
        if table is None:
            return dict.fromkeys(_PRICES)
        change = self._book.next_change(used, at)
        changed = None if change is None else self._book.rates_at(used, change)
        long_rates = None if table.long_above is None else stated(table.long_rates, table.fallbacks)
        next_rates = None if changed is None else stated(changed.rates, changed.fallbacks)
        next_change = None if change is None else to_rfc3339(change)
        told = stated(table.rates, table.fallbacks), table.long_above, long_rates, next_change, next_rates
        return dict(zip(_PRICES, (*told, table.model, source(table)), strict=True))


def _makes_no_pictures(entry: Entry) -> bool:
    return entry.document["x_weighbridge"]["images"] is None


def images(model: str, table: RateTable) -> dict[str, Any]:
    """What pictures a model makes, and what each costs by its size; null where its tokens aren't known."""
    offered, priced = image_models.offers(model), pictures(table)
    unknown = {"tokens": None, "usd": None}
    return {
        "sizes": {size: priced.get(size, unknown) for size in offered.sizes or ("1K",)},
        "aspect_ratios": list(offered.ratios),
    }


def pictures(table: RateTable) -> dict[str, dict[str, Any]]:
    """Tokens and USD of a picture made, by its size."""
    rate = table.rates.get("output_image", 0)
    return {
        size: {"tokens": tokens, "usd": to_usd(divide_half_even(tokens * rate))}
        for size, tokens in table.images.items()
    }


def stated(rates: Rates, fallbacks: Mapping[str, str]) -> dict[str, str]:
    """Own rates as decimal strings, stated as Google states them: USD per million tokens, per thousand, per second."""
    return dict(price_book.stated(name, rate) for name, rate in rates.items() if name not in fallbacks)


def source(table: RateTable) -> str:
    """Whose rates they are, as `prices show` and the ledger name them."""
    return "configuration" if table.configured else table.source
