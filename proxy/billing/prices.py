"""The price book: rates in force at a time for a model and tier, found by a call's names."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from proxy.billing import rate_tables, taken_book
from proxy.billing.genai_rates import Matcher
from proxy.billing.price_book import Book, Model, Override, read_overrides
from proxy.billing.rate_tables import RateTable
from proxy.billing.taken_book import Taken

LATEST = 2**63 - 1
"""A time, in Unix microseconds, after every change of rates."""

_LOOK_UPS_KEPT = 1024
_LONGEST_NAME = 128
_PINNED = re.compile(r"(-preview(-\d{2}-\d{2,4})?|-\d{3})$")
"""A-RETIRED-AS-SUCCESSOR."""


class PriceBook:
    """Everything that is known of prices. Immutable; look-ups are cached, so that pricing a call costs microseconds."""

    def __init__(
        self,
        book: Book,
        overrides: tuple[Override, ...] = (),
        others: tuple[tuple[Matcher, Model], ...] = (),
        taken: Taken | None = None,
    ) -> None:
        self._book = book
        self._overrides = overrides
        self._others = others
        self.changes = sorted(_changes(book, overrides, others))
        """When any rate changes, in Unix microseconds."""
        self._table = lru_cache(_LOOK_UPS_KEPT)(self._find_table)
        self._resolve = lru_cache(_LOOK_UPS_KEPT)(self._find_model)
        self.taken = taken
        """What was taken in place of the package's book."""

    @classmethod
    def load(cls, overrides: Iterable[Any] = (), taken: Path | None = None) -> PriceBook:
        """The price book over genai-prices, under the configuration's [[prices]] (see `read_overrides`).

        The book is the package's, or the one that was taken in its place, if it stands in the file `taken`. Takes half
        a second: once, before the door opens. Raises ValueError where an override isn't a price, or the file is bad.
        """
        found = None if taken is None else taken_book.read(taken)
        if found is None:
            return cls.of(None, overrides)
        read, (book, others) = found
        return cls(book, read_overrides(overrides), others, read)

    @classmethod
    def of(cls, taken: Taken | None, overrides: Iterable[Any] = ()) -> PriceBook:
        """`load`, of a book that was read; None is the package's. Raises ValueError."""
        book, others = taken_book.books(taken)
        return cls(book, read_overrides(overrides), others, taken)

    def table(
        self, model_version: str | None, model: str, model_asked: str, tier: str | None, at: int
    ) -> RateTable | None:
        """The rates of a call that started at `at` (Unix microseconds) and was served in `tier`; None: it has no price.

        Those of `model_version`, the response's; where it has no price of `model`, which went up; then `model_asked`.
        """
        if model_version is not None and len(model_version) > _LONGEST_NAME:
            model_version = None  # look-ups are kept: what bounds their number must bound their size
        return self._table((model_version, model, model_asked), self._tier(tier), bisect_right(self.changes, at))

    def rates_at(self, model: str, at: int, tier: str | None = None) -> RateTable | None:
        """The rates in force for `model` at `at`, or None where it has no price."""
        return self._table((model,), self._tier(tier), bisect_right(self.changes, at))

    def knows(self, model: str, at: int = LATEST) -> bool:
        """Whether calls of `model` have a price: in the book, in the configuration, or in genai-prices.

        Those of a model that is charged by the second have none: nothing counts seconds yet.
        """
        table = self.rates_at(model, at)
        return table is not None and "input_text" in table.rates

    def models(self) -> tuple[str, ...]:
        """Every name in the book or the configuration whose calls have a price: a bounded set, for metric labels."""
        return tuple(name for name in self.listed() if self.knows(name))

    def listed(self) -> dict[str, None]:
        """Every name that stands in the book or the configuration, aliases too, in their order."""
        configured = (override.model for override in self._overrides if not override.is_glob)
        return dict.fromkeys((*self._book.models, *self._book.aliases, *configured))

    def names(self) -> tuple[str, ...]:
        """Every name of which a rate is known: in the book, in the configuration, and in genai-prices."""
        lacked = (model.id for _, model in self._others if self._resolve(model.id, LATEST) is model)
        return tuple(dict.fromkeys((*self.listed(), *lacked)))

    def is_alias(self, name: str, at: int) -> bool:
        """Whether the book says of `name` that it is another name of a model at `at`."""
        alias = self._book.aliases.get(name)
        return alias is not None and alias.since <= at

    @property
    def source(self) -> str:
        """The book's name and date, as the ledger writes it; of genai-prices' data over the package's book, both."""
        if self.taken is not None and self.taken.source != self._book.source:
            return f"{self._book.source} with {self.taken.source}"
        return self._book.source

    @property
    def made_on(self) -> date:
        """The day of the book's version."""
        return date.fromisoformat(self._book.source.rpartition(" ")[2])

    def model(self, name: str, at: int = LATEST) -> Model | None:
        """The entry that `name` leads to at `at`, in the book or in genai-prices."""
        return self._resolve(name, at)

    def tiers(self) -> tuple[str, ...]:
        """The tiers that the book prices: standard first."""
        return tuple(self._book.tiers)

    def next_change(self, model: str, at: int) -> int | None:
        """When the rates of `model` change next after `at`, in Unix microseconds; None where nothing is announced."""
        now = self.rates_at(model, at)
        return next((moment for moment in self.changes if moment > at and self.rates_at(model, moment) != now), None)

    def assumptions(self, model: str, at: int = LATEST) -> dict[str, str]:
        """The named assumptions behind a cost of `model`: name and sentence."""
        table = self.rates_at(model, at)
        if table is None:
            return {}
        kinds = self._kinds(model.removeprefix("models/"), table, at)
        listed = self._book.assumptions.items()
        return {name: one.says for name, one in listed if one.applies in kinds or name in kinds}

    def _kinds(self, name: str, table: RateTable, at: int) -> set[str]:
        """What `applies` of an assumption may say of this model, and the assumptions that its entry names."""
        model = self._resolve(name, at)
        alias = self._book.aliases.get(name)
        is_kind = {
            "all": True,
            "image": table.is_image_model,
            "text": not table.is_image_model and "output_text" in table.rates,
            "generates": table.is_image_model or "output_text" in table.rates,
            "search": "search" in table.rates,
            "long": table.long_above is not None,
            "no cached": "cached_text" in table.fallbacks,
            "cached standard": model is not None and "cached_text" not in table.fallbacks and not model.cached_by_tier,
            f"search per {table.search_per}": "search" in table.rates,
            "aliased": model is not None and name != model.id and _PINNED.search(name) is not None,
            "auto-routed": alias is not None and 0 < alias.since <= at,
            "genai-prices": table.source.startswith("genai-prices"),
        }
        return {kind for kind, is_so in is_kind.items() if is_so} | set(model.assumptions if model else ())

    def _tier(self, tier: str | None) -> str:
        name = tier.lower() if tier else "standard"
        return name if name in self._book.tiers else "standard"

    def _find_model(self, name: str, at: int) -> Model | None:
        """`at` may be any time within its interval between two changes."""
        name = name.removeprefix("models/")
        for wanted in (name, _PINNED.sub("", name)):
            alias = self._book.aliases.get(wanted)
            if alias is not None and alias.since <= at:
                wanted = alias.model
            if wanted in self._book.models:
                return self._book.models[wanted]
        return next((model for matches, model in self._others if matches(name)), None)

    def _find_table(self, names: tuple[str | None, ...], tier: str, interval: int) -> RateTable | None:
        at = self.changes[interval - 1] if interval else 0
        for name in dict.fromkeys(names):
            if name:
                name = name.removeprefix("models/")
                model = self._resolve(name, at)
                table = rate_tables.build(name, model, self._overrides, tier, self._book.tiers[tier], at)
                if table is not None:
                    return table
        return None


def _changes(book: Book, overrides: Iterable[Override], others: Iterable[tuple[Matcher, Model]]) -> set[int]:
    models = (*book.models.values(), *(model for _, model in others))
    moments = {period.since for model in models for period in model.periods}
    moments |= {alias.since for alias in book.aliases.values()} | {override.since for override in overrides}
    return moments - {0}
