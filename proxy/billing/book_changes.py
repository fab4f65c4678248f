"""What another price book would change: model, rate, tier, from what to what, and from when on."""

from __future__ import annotations

from typing import NamedTuple

from proxy.billing.price_book import stated
from proxy.billing.prices import PriceBook


class Change(NamedTuple):
    """One figure of a model that differs between two books, from `since` on until the next change of it."""

    model: str
    what: str
    """A rate ("output_text", "search_per_1000", "long input_text"), "tokens of 4K", or a rule ("long_above")."""
    tier: str
    """"standard" for what is alike in all tiers."""
    since: int
    """Unix microseconds; 0: always."""
    was: str | None
    """None: the book has no such figure. Money is decimal dollars."""
    becomes: str | None


def compare(was: PriceBook, becomes: PriceBook) -> list[Change]:
    """All that differs, by model, then by time. Both are compared as they are in force at every time of a change."""
    moments = sorted({0, *was.changes, *becomes.changes})
    names = dict.fromkeys((*was.names(), *becomes.names()))
    return [change for name in names for change in _compare(name, was, becomes, moments)]


def _compare(name: str, was: PriceBook, becomes: PriceBook, moments: list[int]) -> list[Change]:
    found = []
    told: dict[tuple[str, str], tuple[str | None, str | None]] = {}
    for moment in moments:
        before, after = _figures(was, name, moment), _figures(becomes, name, moment)
        for what, tier in dict.fromkeys((*before, *after)):
            pair = before.get((what, tier)), after.get((what, tier))
            if pair[0] != pair[1] and told.get((what, tier)) != pair:
                found.append(Change(name, what, tier, moment, *pair))
            told[what, tier] = pair
    return found


def _figures(book: PriceBook, name: str, at: int) -> dict[tuple[str, str], str]:
    """Every figure by which a call of `name` is priced at a time, by what it is and the tier."""
    table = book.rates_at(name, at)
    if table is None:
        return {}
    if table.model != name and book.is_alias(name, at):
        return {("priced as", "standard"): table.model}
    figures = {
        ("long_above", "standard"): str(table.long_above or ""),
        ("search_per", "standard"): table.search_per if "search" in table.rates else "",
        ("tokens of a picture sent", "standard"): str(table.picture or ""),
        ("tokens of a prompt at most", "standard"): str(table.input_token_limit or ""),
        ("tokens of an answer at most", "standard"): str(table.output_token_limit or ""),
        **{(f"tokens of {size}", "standard"): str(tokens) for size, tokens in table.images.items()},
    }
    for tier in book.tiers():
        of = book.rates_at(name, at, tier) or table
        for kind, rates in (("", of.rates), ("long ", of.long_rates if of.long_above else {})):
            own = (stated(rate, nanos) for rate, nanos in rates.items() if rate not in of.fallbacks)
            figures |= {(kind + what, tier): usd for what, usd in own}
    return {figure: value for figure, value in figures.items() if value}
