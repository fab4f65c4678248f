"""`weighbridge ledger rerate`: a period priced anew, by adjustments for what differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from proxy.billing import adjustments, rerating, retention
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.recent import OUT_OF_ORDER_US
from proxy.billing.records import UsageRecord, from_usd, to_rfc3339, to_usd
from proxy.billing.rerating import Rerated, Selection
from proxy.billing.sources import Sources
from proxy.cli import control, options, output, times, unshipped
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.control.admin.rerating import note
from proxy.store.database import open_database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Sums:
    """What rerating would do. Money is nano-dollars."""

    calls: int = 0
    """Looked at."""
    by: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    """Project, model and source of the new price → records that differ, of these without a price before, USD."""
    unpriced: dict[str, int] = field(default_factory=dict)
    """Model → calls that have no price now, either."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Model → calls without a price, of which nobody knows what they weighed."""
    by_hand: dict[str, int] = field(default_factory=dict)
    """Record → what was added to it by hand, of those that differ."""


def rerate(
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Calls that started from then on, a day or a time.")
    ],
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="Calls that started before then. Default: all.", show_default=False
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="Of this project only.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="GLOB", help="Of this model only: an id or a glob.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Price a period's calls anew, with the price book in force for the time of each, and write what differs.

    Each difference is an adjustment, in today's bill; no record is changed. Done twice, it writes nothing more.

    Example: `weighbridge ledger rerate --since 2026-11-01 --model 'gemini-3-pro-image*' --dry-run`
    """
    settings = options.settings(config)
    timezone = settings.limits.timezone
    selection = Selection(_moment(since, timezone, 0), _moment(until, timezone, 2**62), project, model)
    book = _book(settings)
    sources = options.sources(settings)
    shipped = unshipped.tell(sources)
    sums = _sum(sources, book, selection)
    since_when = retention.records_since(sources.bill())
    told = _document(book, sums) | {"records_since": to_rfc3339(since_when) if since_when else None} | shipped
    if not json:
        _tell(told)
        if since_when > selection.since:
            output.wrapped(f"{retention.told(since_when)}: these calls keep the price that they had.")
    writes = bool(sums.by) and not dry_run and (yes or (not json and typer.confirm("Write these adjustments?")))
    made = _write(settings, sources, book, selection) if writes else (0, 0)
    if json:
        output.document(told | {"written": {"adjustments": made[0], "cost_usd": to_usd(made[1])}})
    elif writes:
        output.line(f"{made[0]:,} adjustments written: {to_usd(made[1])} USD on the bill of today.")
    else:
        output.line("Nothing was written.")


def _moment(text: str | None, timezone: str, default: int) -> int:
    moment = times.moment(text, timezone)
    return default if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _book(settings: Settings) -> PriceBook:
    try:
        return PriceBook.load(settings.prices, settings.storage.prices_file)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _sum(sources: Sources, book: PriceBook, selection: Selection) -> Sums:
    sums, by_hand = Sums(), rerating.by_hand(sources.bill(), selection.since - OUT_OF_ORDER_US)
    for each in rerating.rerate(sources.bill(), book, selection, sources.unshipped_files()):
        record, priced = each.record, each.priced
        sums.calls += 1
        if priced is None:
            sums.unknown[record.model] = sums.unknown.get(record.model, 0) + 1
        elif priced.cost is None and each.was is None:
            sums.unpriced[record.model] = sums.unpriced.get(record.model, 0) + 1
        elif each.difference:
            found = sums.by.setdefault((record.project, record.model, priced.source or ""), [0, 0, 0])
            found[:] = found[0] + 1, found[1] + (each.was is None), found[2] + each.difference
            if record.record_id in by_hand:
                sums.by_hand[record.record_id] = by_hand[record.record_id]
    return sums


def _document(book: PriceBook, sums: Sums) -> dict[str, Any]:
    names = ("project", "model", "price_source")
    rows = [
        dict(zip(names, key, strict=True)) | {"records": row[0], "unpriced_before": row[1], "cost_usd": to_usd(row[2])}
        for key, row in sorted(sums.by.items())
    ]
    return {
        "price_book": book.source,
        "calls": sums.calls,
        "rows": rows,
        "records": sum(row[0] for row in sums.by.values()),
        "cost_usd": to_usd(sum(row[2] for row in sums.by.values())),
        "unpriced": sums.unpriced,
        "unknown": sums.unknown,
        "by_hand": {"records": len(sums.by_hand), "cost_usd": to_usd(sum(sums.by_hand.values()))},
    }


def _tell(told: dict[str, Any]) -> None:
    output.line(f"{told['calls']:,} calls, priced by {told['price_book']}: {told['records']:,} cost otherwise now.")
    if told["rows"]:
        names = ("project", "model", "price_source", "records", "unpriced_before", "cost_usd")
        rows = [[str(row[name]) for name in names] for row in told["rows"]]
        rows.append(["total", "", "", str(told["records"]), "", told["cost_usd"]])
        heads = ("PROJECT", "MODEL", "PRICED BY", "CALLS", "WITHOUT PRICE BEFORE", "USD")
        output.table(heads, rows, right=(3, 4, 5))
    for model, calls in sorted(told["unpriced"].items()):
        output.line(f"still unpriced: {model}, {calls:,} calls")
    for model, calls in sorted(told["unknown"].items()):
        output.line(f"unpriced, and what they weighed isn't on record: {model}, {calls:,} calls")
    if (by_hand := told["by_hand"])["records"]:
        output.wrapped(
            f"{by_hand['records']:,} of these calls were adjusted by hand, by {by_hand['cost_usd']} USD in all: "
            "that stays as it is, besides what is written now."
        )


def _write(settings: Settings, sources: Sources, book: PriceBook, selection: Selection) -> tuple[int, int]:
    """How many adjustments were made, and their sum. Raises CommandError, LedgerError, StoreError."""
    door = control.running(settings)
    pages = _pages(sources, book, selection)
    return _write_alone(settings, pages) if door is None else _write_by(door, pages)


def _pages(sources: Sources, book: PriceBook, selection: Selection) -> Iterator[list[Rerated]]:
    page: list[Rerated] = []
    for each in rerating.rerate(sources.bill(), book, selection, sources.unshipped_files()):
        if each.difference:
            page.append(each)
        if len(page) == rerating.PAGE:
            yield page
            page = []
    if page:
        yield page


def _write_by(door: control.ControlDoor, pages: Iterator[list[Rerated]]) -> tuple[int, int]:
    count = added = 0
    for page in pages:
        asked = [{"of": each.record.record_id, "cost_usd": to_usd(each.difference)} for each in page]
        try:
            made = door.post("adjustments/rerate", {"differences": asked})
        except CommandError as error:
            raise CommandError(
                f"{error}\n{count:,} adjustments were written before that: run it again, and the rest is written"
            ) from None
        count, added = count + made["adjustments"], added + from_usd(made["cost_usd"])
    return count, added


def _write_alone(settings: Settings, pages: Iterator[list[Rerated]]) -> tuple[int, int]:
    database, days, added = open_database(settings.storage), Days(settings.limits.timezone), 0

    def batches() -> Iterator[list[UsageRecord]]:
        nonlocal added
        for page in pages:
            now = unix_us()
            differences = [rerating.adjustment(each, now_us=now, period=days.name(now)) for each in page]
            made = adjustments.claimed_alike(Sources.of(settings.storage, database).postgres, differences)
            note(database, made, actor=options.actor())
            yield made
            added += sum(record.cost_usd or 0 for record in made)

    return adjustments.write_batches_alone(settings.storage.data_dir, batches()), added
