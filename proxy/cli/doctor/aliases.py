"""Aliases: whether each can count, and whether what it leads to has a price."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.cli.doctor import price_books
from proxy.cli.doctor.findings import Finding, ok, warning
from proxy.config.globs import matcher
from proxy.config.schema import Settings


def check_aliases(settings: Settings) -> Iterator[Finding]:
    """Whether an upstream offers the models is asked of that, with the others that are wanted."""
    book, found = price_books.in_force(settings), False
    for index, alias in enumerate(settings.models):
        before = next((other.match for other in settings.models[:index] if matcher(other.match)(alias.match)), None)
        if before is not None and not alias.is_glob:
            found = True
            do = "the first entry that matches counts: put the one with the exact name before the glob"
            yield warning(f"the alias {alias.match} never counts: {before}, before it, matches it, too", do)
        elif not book.knows(alias.use):
            found = True
            do = "give it a price with [[prices]]: till then its calls have none, or that of the name asked for"
            yield warning(f"the alias {alias.match} leads to {alias.use}, which has no price", do)
    if not found:
        yield ok(f"{len(settings.models)} in all, each to a model with a price")
