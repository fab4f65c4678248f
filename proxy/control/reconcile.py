"""Our bill against Google's: by day and model, and which calls could explain a difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from proxy.billing.price_book import PACIFIC
from proxy.billing.records import UsageRecord
from proxy.control.google_export import Export, Row
from proxy.errors import Outcome

NEAR_MIDNIGHT = timedelta(minutes=10)
SHOWN = 5
"""Records named of each cause."""
NANO = 1_000_000_000

CAUSES = {
    "estimated": "billed by estimate: nobody saw their usage",
    "truncated": "the upstream broke off: Google may have gone on, or charged less",
    "unsettled": "the server died in them",
    "unpriced": "of a model without a price: they count nothing here",
    "midnight": "around midnight in Los Angeles: Google may count them to the other day",
    "client_gone": "their client left: read to the end, and charged in full",
}
"""Why a call could stand otherwise at Google. A call may have several."""


@dataclass
class Cause:
    """The calls that have a cause: how many, what they cost here, and some of them by record_id."""

    calls: int = 0
    cost_usd: int = 0
    record_ids: list[str] = field(default_factory=list)

    def add(self, record: UsageRecord) -> None:
        self.calls += 1
        self.cost_usd += record.cost_usd or 0
        if len(self.record_ids) < SHOWN:
            self.record_ids.append(record.record_id)


@dataclass
class Ours:
    """What the ledger has of a model in some days. Money is nano-dollars; adjustments are none of Google's affair."""

    calls: int = 0
    cost_usd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    adjustments_cost_usd: int = 0
    causes: dict[str, Cause] = field(default_factory=dict)

    def add(self, record: UsageRecord) -> None:
        if record.kind == "adjustment":
            self.adjustments_cost_usd += record.cost_usd or 0
            return
        self.calls += 1
        self.cost_usd += record.cost_usd or 0
        inputs = (record.prompt_token_count or 0) + (record.tool_use_prompt_token_count or 0)
        answered = (record.candidates_token_count or 0) + (record.thoughts_token_count or 0)
        self.input_tokens += inputs
        total = record.total_token_count
        self.output_tokens += answered if total is None else max(total - inputs, 0)
        for name in _causes(record):
            self.causes.setdefault(name, Cause()).add(record)


@dataclass
class Googles:
    """What the export has of it; None where it doesn't say."""

    cost_usd: Decimal | None = None
    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def add(self, row: Row) -> None:
        if row.cost is not None:
            self.cost_usd = (self.cost_usd or 0) + row.cost
        for name in ("requests", "input_tokens", "output_tokens"):
            if (more := getattr(row, name)) is not None:
                setattr(self, name, (getattr(self, name) or 0) + more)


class Line(NamedTuple):
    """One model in one day, or in all days of an export that tells no days. `differs` names the fields that do."""

    first: date
    last: date
    model: str
    ours: Ours
    google: Googles
    differs: tuple[str, ...]


def period(rows: Iterable[Row]) -> tuple[date, date]:
    """The first day of an export and its last. There must be a row."""
    days = [day for row in rows for day in (row.first, row.last)]
    return min(days), max(days)


def begins(day: date) -> datetime:
    """When a day begins in Los Angeles, by whose days Google bills."""
    return datetime(day.year, day.month, day.day, tzinfo=PACIFIC)


def from_day(export: Export, since: int, reason: str) -> Export:
    """The export from the first whole day whose records are all there; `since` is Unix microseconds.

    What comes before is left out, for that reason.
    """
    kept: list[Row] = []
    gone: list[Row] = []
    for row in export.rows:
        (kept if begins(row.first).timestamp() * 1e6 >= since else gone).append(row)
    if not gone:
        return export
    lost = len(gone), sum((row.cost or Decimal(0) for row in gone), Decimal(0))
    return export._replace(rows=kept, left_out=export.left_out | {reason: lost})


def reconcile(rows: list[Row], records: Iterable[UsageRecord], tolerance: Decimal) -> list[Line]:
    """Every model and day that either side has, by day and model.

    An export whose rows span several days, as the cost table of an invoice, is held against the ledger as a whole.
    `tolerance` is the difference in USD of a line that is no difference: Google rounds each of its rows.
    """
    first, last = period(rows)
    by_day = all(row.first == row.last for row in rows)
    ours: dict[tuple[date, str], Ours] = {}
    googles: dict[tuple[date, str], Googles] = {}
    for row in rows:
        googles.setdefault((row.first if by_day else first, row.model), Googles()).add(row)
    for record in records:
        started = datetime.fromtimestamp(record.started_at / 1e6, PACIFIC).date()
        model = (record.priced_as or record.model).removeprefix("models/")
        if first <= started <= last:
            ours.setdefault((started if by_day else first, model), Ours()).add(record)
    lines = []
    for day, model in sorted(ours.keys() | googles.keys()):
        mine, theirs = ours.get((day, model), Ours()), googles.get((day, model), Googles())
        differs = tuple(_differs(mine, theirs, tolerance, _told(googles)))
        lines.append(Line(day, day if by_day else last, model, mine, theirs, differs))
    return lines


def _told(googles: Mapping[tuple[date, str], Googles]) -> frozenset[str]:
    """What an export tells at all: a model that it lacks has none of it."""
    names = ("cost_usd", "requests", "input_tokens", "output_tokens")
    return frozenset(name for name in names if any(getattr(one, name) is not None for one in googles.values()))


def _differs(ours: Ours, google: Googles, tolerance: Decimal, told: frozenset[str]) -> Iterable[str]:
    if "cost_usd" in told and abs(Decimal(ours.cost_usd) / NANO - (google.cost_usd or 0)) > tolerance:
        yield "cost_usd"
    for name, mine in (
        ("requests", ours.calls),
        ("input_tokens", ours.input_tokens),
        ("output_tokens", ours.output_tokens),
    ):
        if name in told and mine != (getattr(google, name) or 0):
            yield name


def _causes(record: UsageRecord) -> Iterable[str]:
    if record.estimated:
        yield "estimated"
    if record.outcome in (Outcome.TRUNCATED, Outcome.UNSETTLED, Outcome.CLIENT_GONE):
        yield str(record.outcome)
    if record.cost_usd is None:
        yield "unpriced"
    started = datetime.fromtimestamp(record.started_at / 1e6, PACIFIC)
    ended = datetime.fromtimestamp((record.finished_at or record.started_at) / 1e6, PACIFIC)
    if (started - NEAR_MIDNIGHT).date() != (ended + NEAR_MIDNIGHT).date():
        yield "midnight"
