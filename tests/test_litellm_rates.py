"""Our book beside LiteLLM's price map: every difference, and every rate that only one of both has, has its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from proxy.billing.book_files import read_book
from proxy.billing.price_book import stated
from proxy.billing.prices import PriceBook
from tests.billing.litellm_rates import LITELLM

READ_AT = int(datetime(2026, 11, 21, 20, tzinfo=UTC).timestamp()) * 1_000_000
OUR_BOOK = PriceBook(read_book())

ROUTED = "LiteLLM prices the name; we price who answers since 2026-10-08"
RETIRED = "the model was shut down on 2026-10-02; genai-prices, which we follow here, has no such rate for it"
ALL_BUT_4K = "LiteLLM has one rate for all resolutions but 4K; we name each"
ONLY_NAMES_IT = "LiteLLM has no rate for it; genai-prices and Google's page have"

DIFFERENCES = {
    ("gemini-2.5-flash-image", "cached_text"): RETIRED,
    ("gemini-2.5-flash-image", "input_audio"): RETIRED,
    ("gemini-2.5-flash-image", "search"): RETIRED,
    ("gemini-3.5-flash", "input_text"): ROUTED,
    ("gemini-3.5-flash", "input_audio"): ROUTED,
    ("gemini-3.5-flash", "cached_text"): ROUTED,
    ("gemini-3.5-flash", "output_text"): ROUTED,
    ("gemini-3.8-live", "search"): ONLY_NAMES_IT,
    ("veo-3.1-generate-001", "second_1080p"): ALL_BUT_4K,
    ("veo-3.1-generate-preview", "second_1080p"): ALL_BUT_4K,
}
"""(name, rate) → why our book and LiteLLM don't say the same, in whatever tier."""

NOT_THERE = {
    "gemini-4-carbon": "announced on 2026-11-10, after the release was made",
    "gemini-4-hydrogen": "announced on 2026-11-12, after the release was made",
    "gemini-3.1-pro": "a name that stands in Google's quota errors only",
    "veo-3.1-generate": "LiteLLM has it under veo-3.1-generate-001 and -preview",
    "veo-3.1-fast-generate": "LiteLLM has it under veo-3.1-fast-generate-001 and -preview",
    "veo-3.1-lite-generate": "LiteLLM has it under veo-3.1-lite-generate-preview",
}
"""Names of our book that LiteLLM lacks, and why."""


def _theirs(name: str) -> dict[tuple[str, str], Decimal]:
    """(tier, rate) → USD as both state it."""
    cells = ((label, cell.partition("=")) for label, row in LITELLM[name].items() for cell in row.split())
    return {(label, rate): Decimal(usd) for label, (rate, _, usd) in cells}


def _ours(name: str, label: str) -> tuple[dict[str, Decimal], set[str]]:
    """All rates that `name` is charged at, and those that it has of its own."""
    table = OUR_BOOK.rates_at(name, READ_AT, label.split()[0])
    assert table is not None
    rates = table.long_rates if label.endswith("long") else table.rates
    return {rate: Decimal(stated(rate, nanos)[1]) for rate, nanos in rates.items()}, rates.keys() - table.fallbacks


def test_our_book_and_litellm_differ_only_where_a_reason_is_given() -> None:
    found, compared = set(), 0
    for name in LITELLM:
        theirs = _theirs(name)
        for (label, rate), usd in theirs.items():
            compared += 1
            if _ours(name, label)[0].get(rate) != usd:
                found.add((name, rate))
        own = _ours(name, "standard")[1] - {"cache_storage"}  # which it has no entry for
        found |= {(name, rate) for rate in own if ("standard", rate) not in theirs}
    assert found == DIFFERENCES.keys()
    assert compared > 350


def test_every_name_of_our_book_is_there_or_it_is_said_why_not() -> None:
    assert (set(read_book().models) | set(OUR_BOOK.models())) - LITELLM.keys() == NOT_THERE.keys()
