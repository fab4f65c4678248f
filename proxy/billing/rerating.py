"""Records priced anew, with the book in force for their own time: what differs, as adjustments. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from proxy.billing import adjustments, charge, retention
from proxy.billing.estimates import picture_tokens
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import UNPRICED, Priced, RateTable
from proxy.billing.records import UsageRecord, from_row, to_usd
from proxy.billing.reports import reading
from proxy.errors import Outcome
from proxy.gemini import openai_bodies
from proxy.gemini.reading import Reading

PAGE = 500
"""Records read by one statement, and the most adjustments that are made in one step."""
_CALLS = f"kind IN ('call', 'turn', 'collected') AND outcome <> '{Outcome.UPSTREAM_ERROR}'"
"""Those that may have cost something."""


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


def rerate(files: Sequence[Path], book: PriceBook, selection: Selection) -> Iterator[Rerated]:
    """Each record that may have a price, priced anew, in the order of writing.

    Of calls before `retention.records_since` none: what former rerating added may be removed from another file.
    Records that are written after the reading began are left out. Raises LedgerUnusable.
    """
    selection = selection._replace(since=max(selection.since, retention.records_since(files)))
    with ExitStack() as opened:
        connections = [opened.enter_context(reading(path)) for path in files]
        for connection in connections:
            for page in _pages(connection, selection):
                earlier = _earlier(connections, [record.record_id for record in page])
                for record in page:
                    yield _rerated(record, book, *earlier[record.record_id])


def rerate_these(files: Sequence[Path], book: PriceBook, record_ids: Sequence[str]) -> dict[str, Rerated]:
    """The records of these ids, priced anew; those that aren't there, or can't have a price, are left out."""
    since = retention.records_since(files)
    with ExitStack() as opened:
        connections = [opened.enter_context(reading(path)) for path in files]
        earlier = _earlier(connections, record_ids)
        marks = ", ".join("?" * len(record_ids))
        found = [
            record
            for connection in connections
            for record in _records(connection, f"record_id IN ({marks}) AND started_at >= ?", [*record_ids, since])
        ]
        return {record.record_id: _rerated(record, book, *earlier[record.record_id]) for record in found}


def adjustment(rerated: Rerated, *, now_us: int, period: str) -> UsageRecord:
    """The record that brings the bill to the price in force. It stands in the bill of `period`, the day of `now_us`.

    Its id says which record it is of and that it is the how manieth: made twice, it counts once.
    """
    record, priced = rerated.record, rerated.priced
    assert priced is not None
    assert priced.cost is not None
    was = "no price" if rerated.was is None else f"{to_usd(rerated.was)} USD"
    return UsageRecord(
        record_id=f"{adjustments.RERATED}{record.record_id}-{rerated.number}",
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


def by_hand(files: Iterable[Path]) -> dict[str, int]:
    """What was added by hand to each record that an adjustment by hand names. Rerating leaves it as it is."""
    sums: dict[str, int] = {}
    query = (
        "SELECT caused_by, sum(cost_usd) FROM usage_records"
        " WHERE kind = ? AND caused_by IS NOT NULL AND record_id NOT GLOB ? GROUP BY caused_by"
    )
    for path in files:
        with reading(path) as connection:
            for record_id, usd in connection.execute(query, (adjustments.KIND, f"{adjustments.RERATED}*")):
                sums[record_id] = sums.get(record_id, 0) + usd
    return sums


def _rerated(record: UsageRecord, book: PriceBook, count: int, added: int) -> Rerated:
    table = charge.table_of(record, book)
    was = record.cost_usd if not count else (record.cost_usd or 0) + added
    if table is None:
        return Rerated(record, was, UNPRICED, count + 1)
    weighed = quantities(record, table)
    return Rerated(record, was, None if weighed is None else table.price(weighed), count + 1)


def _earlier(connections: Iterable[Connection], record_ids: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """How many adjustments rerating made of each record, and their sum; found by their ids, which are sorted."""
    query = "SELECT count(*), coalesce(sum(cost_usd), 0) FROM usage_records WHERE record_id >= ? AND record_id < ?"
    found = dict.fromkeys(record_ids, (0, 0))
    for connection in connections:
        for record_id, (count, added) in found.items():
            begins = adjustments.RERATED + record_id
            row = connection.execute(query, (f"{begins}-", f"{begins}.")).fetchone()  # "." comes after "-"
            found[record_id] = count + row[0], added + row[1]
    return found


def _pages(connection: Connection, selection: Selection) -> Iterator[list[UsageRecord]]:
    """Page by page: a reader that holds its transaction long keeps the writer's WAL from shrinking."""
    start, last = connection.execute("SELECT min(seq), max(seq) FROM usage_records").fetchone()
    where, values = "seq >= ? AND seq < ? AND started_at >= ? AND started_at < ?", [selection.since, selection.until]
    for column, value in (("project = ?", selection.project), ("model GLOB ?", selection.model)):
        if value is not None:
            where, values = f"{where} AND {column}", [*values, value]  # type: ignore[list-item]
    for seq in range(start or 0, (last or -1) + 1, PAGE):
        if page := _records(connection, where, [seq, min(seq + PAGE, last + 1), *values]):
            yield page


def _records(connection: Connection, where: str, values: Sequence[object]) -> list[UsageRecord]:
    found = connection.execute(f"SELECT * FROM usage_records WHERE {where} AND {_CALLS} ORDER BY seq", values)  # noqa: S608
    columns = [column[0] for column in found.description]
    return [from_row(columns, row) for row in found.fetchall()]
