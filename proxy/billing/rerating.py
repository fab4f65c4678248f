"""Records priced anew, with the book in force for their own time: what differs, as adjustments. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from proxy.billing import adjustments, charge, reports, retention
from proxy.billing.estimates import picture_tokens
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import UNPRICED, Priced, RateTable
from proxy.billing.records import COLUMNS, UsageRecord, from_row, to_usd
from proxy.billing.sources import RECORDS_PAGE, Source, each_of, opened, parts
from proxy.config.globs import matcher
from proxy.errors import Outcome
from proxy.gemini import openai_bodies
from proxy.gemini.reading import Reading

PAGE = RECORDS_PAGE
"""The most adjustments that are made in one step."""
_CALLS = f"AND kind IN ('call', 'turn', 'collected') AND outcome <> '{Outcome.UPSTREAM_ERROR}'"
"""Those that may have cost something."""
_MODEL = 1 + COLUMNS.index("model")


class Rerated(NamedTuple):
    """A record and what it costs now. Money is nano-dollars."""

    record: UsageRecord
    was: int | None
    """What stands on the bill for it, with what former rerating added to it; None: no price."""
    priced: Priced | None
    """By the book in force; None where what was weighed isn't known any more."""
    number: int
    """Of the adjustment that would be made: the record's first, second … by rerating."""

    @property
    def difference(self) -> int:
        """What is to be added to the bill: 0 where the record has no price now, either."""
        if self.priced is None or self.priced.cost is None:
            return 0
        return self.priced.cost - (self.was or 0)


class Selection(NamedTuple):
    """Which records: those of calls that started from `since` to before `until`, in Unix microseconds."""

    since: int
    until: int
    project: str | None = None
    model: str | None = None
    """The model that went up: an id or a glob."""


def rerate(
    sources: Sequence[Source], book: PriceBook, selection: Selection, unshipped: Sequence[Path] = ()
) -> Iterator[Rerated]:
    """Each record that may have a price, priced anew, in the order of writing.

    `unshipped` are ledger files whose latest adjustments `sources` may not have yet. Of calls before
    `retention.records_since` none: what former rerating added may be removed from another file. Records that are
    written after the reading began are left out. Raises LedgerUnusable, StoreError.
    """
    selection = selection._replace(since=max(selection.since, retention.records_since(sources)))
    for source in sources:
        for page in _pages(source, selection):
            earlier = _earlier([*sources, *unshipped], [record.record_id for record in page])
            for record in page:
                yield _rerated(record, book, *earlier[record.record_id])


def rerate_these(
    sources: Sequence[Source], book: PriceBook, record_ids: Sequence[str], unshipped: Sequence[Path] = ()
) -> dict[str, Rerated]:
    """The records of these ids, priced anew; those that aren't there, or can't have a price, are left out."""
    if not record_ids:
        return {}
    since = retention.records_since(sources)
    earlier = _earlier([*sources, *unshipped], record_ids)
    ids, named = each_of("id", record_ids)
    found: dict[str, Rerated] = {}
    for source in sources:
        with opened(source) as reader:
            for record in reader.records(
                f"record_id IN ({ids}) AND started_at >= :since {_CALLS}", **named, since=since
            ):
                found[record.record_id] = _rerated(record, book, *earlier[record.record_id])
    return found


def adjustment(rerated: Rerated, *, now_us: int, period: str) -> UsageRecord:
    """The record that brings the bill to the price in force. It stands in the bill of `period`, the day of `now_us`.

    Its id says which record it is of and that it is the how manieth: made twice, it counts once.
    """
    record, priced = rerated.record, rerated.priced
    assert priced is not None
    assert priced.cost is not None
    was = "no price" if rerated.was is None else f"{to_usd(rerated.was)} USD"
    return UsageRecord(
        record_id=adjustment_id(record.record_id, rerated.number),
        kind=adjustments.KIND,
        request_id=record.request_id,
        caused_by=record.record_id,
        started_at=now_us,
        finished_at=now_us,
        project=record.project,
        key_id=record.key_id,
        key_name=record.key_name,
        upstream=record.upstream,
        operation=adjustments.KIND,
        model=record.model,
        model_asked=record.model_asked,
        model_version=record.model_version,
        service_tier=record.service_tier,
        outcome="ok",
        cost_usd=rerated.difference,
        priced_as=priced.priced_as,
        price_source=priced.source,
        period=period,
        estimated=record.estimated,
        hint=f"priced anew: {was} → {to_usd(priced.cost)} USD, by {priced.source}",
    )


def quantities(record: UsageRecord, table: RateTable) -> dict[str, int] | None:
    """What was weighed of a call, to be priced by `table`; None where that isn't known any more.

    As it stands in the record. A record that had no price at all was weighed without knowing whether its model makes
    images: so it is weighed again, from the usage that Google reported; an image whose size nobody knows is a 1K one.
    """
    stands = {name: quantity for name, (quantity, _) in (record.rates or {}).items()}
    if record.searches and record.usage is not None:
        stands["search"] = record.searches  # a model that charges grounding by the call has 1 there
    unpriced = record.cost_usd is None and record.priced_as is None
    if unpriced and record.operation == openai_bodies.PICTURES:
        stands = {"output_image": record.images * picture_tokens(table)} if record.images else stands
    elif unpriced and record.usage is not None:
        text = record.usage.encode()
        reading = Reading(usage=text, images=record.images, searches=record.searches, maps=stands.get("maps", 0))
        usage = charge.usage_of(record.operation, text)
        stands = charge.weigh(reading, usage, None, table, record.operation) or stands
    known = bool(stands) or (record.cost_usd is not None)
    return stands if known else None


def by_hand(sources: Iterable[Source], since: int) -> dict[str, int]:
    """What was added by hand to each record that an adjustment by hand names, of those made from `since` on.

    Rerating leaves it as it is. Raises LedgerUnusable, StoreError.
    """
    sums: dict[str, int] = {}
    query = (
        "SELECT caused_by, sum(cost_usd) FROM usage_records"
        " WHERE started_at >= :since AND kind NOT IN ('call', 'turn') AND kind = :kind AND caused_by IS NOT NULL"
        " AND substr(record_id, 1, :begins) <> :rerated GROUP BY caused_by"
    )
    rerated = adjustments.RERATED
    asked = {"since": since, "kind": adjustments.KIND, "begins": len(rerated), "rerated": rerated}
    for source in sources:
        with opened(source) as reader:
            for record_id, usd in reader.rows(query, **asked):
                sums[record_id] = sums.get(record_id, 0) + usd
    return sums


def _rerated(record: UsageRecord, book: PriceBook, count: int, added: int) -> Rerated:
    table = charge.table_of(record, book)
    was = record.cost_usd if not count else (record.cost_usd or 0) + added
    if table is None:
        return Rerated(record, was, UNPRICED, count + 1)
    weighed = quantities(record, table)
    return Rerated(record, was, None if weighed is None else table.price(weighed), count + 1)


def _earlier(sources: Iterable[Source], record_ids: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """How many adjustments rerating made of each record, and their sum: it is the first that isn't there that ends it.

    Found by their ids, so that one which stands in two sources, as it was shipped, counts once.
    """
    found = dict.fromkeys(record_ids, (0, 0))
    asked = {adjustment_id(record_id, 1): record_id for record_id in found}
    while asked:
        costs: dict[str, int] = {}
        ids, named = each_of("id", asked)
        select = f"SELECT record_id, cost_usd FROM usage_records WHERE record_id IN ({ids})"  # noqa: S608
        for source in sources:
            with opened(source) as reader:
                costs |= reader.rows(select, **named)
        again = {}
        for made, cost in costs.items():
            count, added = found[asked[made]]
            found[asked[made]] = count + 1, added + cost
            again[adjustment_id(asked[made], count + 2)] = asked[made]
        asked = again
    return found


def adjustment_id(record_id: str, number: int) -> str:
    return f"{adjustments.RERATED}{record_id}-{number}"


def _pages(source: Source, selection: Selection) -> Iterator[list[UsageRecord]]:
    """Page by page: a reader that holds its transaction long keeps the writer's WAL from shrinking."""
    where = f"{_CALLS} {'' if selection.project is None else 'AND project = :project'}"
    matches = matcher(selection.model or "*")
    for part in parts(source):
        for page in reports.pages(
            source, selection.since, selection.until, part=part, where=where, project=selection.project
        ):
            if found := [from_row(COLUMNS, row[1:]) for row in page.rows if matches(row[_MODEL])]:
                yield found
