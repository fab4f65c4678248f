"""The price book: the program's, or one that was taken in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from proxy.billing import taken_book
from proxy.billing.prices import PriceBook
from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.schema import Settings


def in_force(settings: Settings) -> PriceBook:
    """The price book with the configuration's own rates before it. Raises ValueError for such as can't be."""
    try:
        return PriceBook.load(settings.prices, settings.storage.prices_file)
    except ValueError:  # which is told as what is wrong with the price book
        return PriceBook.load(settings.prices)


def check_price_book(taken: Path) -> Iterator[Finding]:
    """`taken` is where a price book stands that was taken."""
    try:
        book = PriceBook.load((), taken)
    except ValueError as error:
        yield problem(str(error).removesuffix(f". {taken_book.GO_BACK}"), taken_book.GO_BACK)
        return
    if sentence := taken_book.outdated(book.taken):
        yield warning(sentence.removesuffix(f": {taken_book.GO_BACK}"), taken_book.GO_BACK)
        return
    origin = "comes with the program" if book.taken is None else f"taken from {book.taken.origin}"
    yield ok(f"{book.source}, {origin}")
