"""Checks one usage record against itself: its cost by its rates, its quantities and counts by its usage."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.billing import charge
from proxy.billing.price_book import RATE_NAMES
from proxy.billing.rate_tables import divide_half_even
from proxy.billing.records import UsageRecord, to_usd
from proxy.errors import Outcome
from proxy.gemini import openai_bodies
from proxy.gemini import usage as usages
from proxy.gemini.reading import Reading

CALLS = ("call", "turn", "collected")
KINDS = (*CALLS, "storage", "adjustment")
_COUNTS = ("prompt", "cached_content", "tool_use_prompt", "thoughts", "candidates", "total")
_OUTPUTS = ("output_text", "output_image")


def faults(record: UsageRecord) -> Iterator[tuple[str, str]]:
    """What doesn't fit: the check that it failed ("record", "cost" or "usage") and a sentence."""
    if record.kind not in KINDS:
        yield "record", f"its kind is {record.kind!r}"
    if record.outcome not in set(Outcome):
        yield "record", f"its outcome is {record.outcome!r}"
    if record.kind == "adjustment":
        if record.cost_usd is None:
            yield "cost", "it is an adjustment of nothing"
        return
    yield from _cost(record)
    if record.usage is not None and record.outcome != Outcome.UPSTREAM_ERROR:
        yield from _usage(record)


def _cost(record: UsageRecord) -> Iterator[tuple[str, str]]:
    """A call without a price has no cost; part of its quantities may have rates all the same."""
    if record.outcome == Outcome.UPSTREAM_ERROR and record.cost_usd:
        yield "cost", f"it failed upstream, which costs nothing, and stands at {to_usd(record.cost_usd)} USD"
    if record.cost_usd is None:
        return
    if record.rates is None:
        yield "cost", f"it stands at {to_usd(record.cost_usd)} USD without the rates that make it"
        return
    if any(rate is None for _, rate in record.rates.values()):
        yield "cost", f"it stands at {to_usd(record.cost_usd)} USD, and one of its quantities has no rate"
    cost = divide_half_even(sum(quantity * (rate or 0) for quantity, rate in record.rates.values()))
    if cost != record.cost_usd:
        yield "cost", f"its rates make {to_usd(cost)} USD, and it stands at {to_usd(record.cost_usd)}"


def _usage(record: UsageRecord) -> Iterator[tuple[str, str]]:
    if record.operation == openai_bodies.PICTURES:
        return  # it is charged by what came, whatever is said of tokens
    usage = charge.usage_of(record.operation, (record.usage or "").encode())
    for name in (f"{count}_token_count" for count in _COUNTS):
        if (said := getattr(usage, name)) != (stands := getattr(record, name)):
            yield "usage", f"its usage says {name} {said}, and it stands at {stands}"
    expected = charge.weigh(Reading(), usage, None, None, record.operation)
    charged = {name: quantity for name, (quantity, _) in (record.rates or {}).items()}
    searches = charged.pop("search", 0)
    charged.pop("maps", 0)  # look-ups stand in the rates alone
    if not expected or record.rates is None:
        return  # a usage that amounts to nothing: the call keeps its estimate
    # Without a cost, what had no rate isn't among the rates. Searches are charged by query, or by prompt.
    unpriced = {0} if record.cost_usd is None else set()
    if searches not in {record.searches, min(record.searches, 1)} | unpriced:
        yield "usage", f"{searches} searches are charged, and it made {record.searches}"
    if record.images and not usages.names_images(usage):
        # What share of the output is image, where no details say it, hangs on the size asked for, which no record has.
        expected["output_text"] = sum(expected.pop(name, 0) for name in _OUTPUTS)
        charged["output_text"] = sum(charged.pop(name, 0) for name in _OUTPUTS)
        if record.cost_usd is None:
            expected["output_text"] = charged["output_text"]
    for name in RATE_NAMES:
        want, have = expected.get(name, 0), charged.get(name, 0)
        if have > want and name in _OUTPUTS and record.estimated and record.images:
            continue  # pictures came, and not the usage that counts them
        if have not in {want} | unpriced:
            yield "usage", f"its usage makes {want:,} {name}, and {have:,} are charged"
