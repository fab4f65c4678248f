"""`weighbridge usage reconcile`: the ledger against Google's own exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.billing import reports, retention
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord, to_rfc3339, to_usd
from proxy.billing.sources import Sources
from proxy.cli import options, output, unshipped
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.config.schema import Settings
from proxy.control import google_export, reconcile
from proxy.control.google_export import Export, ExportUnreadable
from proxy.control.reconcile import CAUSES, Line

_HEADS = ("DAY", "MODEL", "CALLS", "OURS", "GOOGLE'S", "DIFFERENCE", "DIFFERS IN")

_REMOVED = "the records of these days were removed (storage.retention_days)"


def register(app: typer.Typer) -> None:
    app.command("reconcile")(_reconcile)


def _reconcile(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV: Google's cost table, or AI Studio's usage.")],
    mapped: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="What stands where; may be repeated.", show_default=False),
    ] = None,
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="USD", help="A difference of a line that is none: Google rounds.")
    ] = "0.01",
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", metavar="NAME", help="Only calls by this upstream.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Hold the ledger against an export of Google's, by day and model, and say which calls could explain a difference.

    Ends with 1 where anything differs.

    Example: `weighbridge usage reconcile cost-table.csv`
    """
    settings = options.settings(config)
    sources = options.sources(settings)
    shipped = unshipped.tell(sources)
    export = _kept(sources, _read(settings, file, _mapped(mapped or ())))
    if not export.rows:
        raise CommandError(f"{file} has no row of the Gemini API. {' '.join(_left_out(export))}".strip())
    lines = reconcile.reconcile(export.rows, _records(sources, export, upstream), _amount(tolerance))
    if json:
        output.document(_document(export, lines) | shipped)
    else:
        _print(export, lines)
    if any(line.differs for line in lines):
        raise typer.Exit(1)


def _read(settings: Settings, file: Path, mapped: dict[str, str]) -> Export:
    try:
        models = _names(PriceBook.load(settings.prices))
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return google_export.read(lines, models, mapped)
    except UnicodeDecodeError:
        raise CommandError(f"{file} is no CSV in UTF-8: export it as CSV") from None
    except (ExportUnreadable, ValueError) as error:
        raise CommandError(f"{file}: {error}") from None


def _kept(sources: Sources, export: Export) -> Export:
    """Without the days whose records were removed."""
    if since := retention.records_since(sources.bill()):
        return reconcile.from_day(export, since, f"rows that begin before {to_rfc3339(since)[:16]}Z: {_REMOVED}")
    return export


def _names(book: PriceBook) -> dict[str, str]:
    """Names of models, and the id that the ledger has them priced as: a preview is its successor."""
    return {
        name: found.id if name.endswith("-preview") and (found := book.model(name)) else name for name in book.models()
    }


def _mapped(given: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if any(not field or not column for field, _, column in pairs):
        raise CommandError("--map takes FIELD=COLUMN, such as --map 'cost=Cost before credits'")
    return {field: column for field, _, column in pairs}


def _amount(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        raise CommandError(f"--tolerance takes an amount in USD, such as 0.01, and not {text[:20]!r}")
    return found


def _records(sources: Sources, export: Export, upstream: str | None) -> Iterator[UsageRecord]:
    first, last = reconcile.period(export.rows)
    period = reconcile.begins(first), reconcile.begins(last + timedelta(days=1))
    for record in reports.export(sources.bill(), *period):
        if upstream is None or record.upstream in (upstream, ""):
            yield record


def _document(export: Export, lines: Sequence[Line]) -> dict[str, Any]:
    left_out = {reason: {"rows": count, "cost_usd": str(cost)} for reason, (count, cost) in export.left_out.items()}
    return {"columns": export.columns, "left_out": left_out, "lines": [_line(line) for line in lines]}


def _line(line: Line) -> dict[str, Any]:
    ours, google = line.ours, line.google
    return {
        "first_day": line.first.isoformat(),
        "last_day": line.last.isoformat(),
        "model": line.model,
        "ours": {
            "requests": ours.calls,
            "cost_usd": to_usd(ours.cost_usd),
            "input_tokens": ours.input_tokens,
            "output_tokens": ours.output_tokens,
            "adjustments_cost_usd": to_usd(ours.adjustments_cost_usd),
        },
        "google": {
            "requests": google.requests,
            "cost_usd": None if google.cost_usd is None else f"{google.cost_usd:f}",
            "input_tokens": google.input_tokens,
            "output_tokens": google.output_tokens,
        },
        "differs": list(line.differs),
        "could_explain": {
            name: {"calls": cause.calls, "cost_usd": to_usd(cause.cost_usd), "record_ids": cause.record_ids}
            for name, cause in ours.causes.items()
        },
    }


def _print(export: Export, lines: Sequence[Line]) -> None:
    rows = []
    for line in lines:
        day = line.first.isoformat() if line.first == line.last else f"{line.first} to {line.last}"
        ours = Decimal(line.ours.cost_usd) / reconcile.NANO
        google = line.google.cost_usd
        told = [f"{google or 0:f}", f"{ours - (google or 0):f}"] if "cost" in export.columns else ["-", "-"]
        cells = [day, line.model, f"{line.ours.calls:,}", to_usd(line.ours.cost_usd), *told, ", ".join(line.differs)]
        rows.append(cells)
    output.table(_HEADS, rows, right=range(2, 6))
    for line in lines:
        if line.differs:
            _explain(line)
    for sentence in _left_out(export):
        output.line(f"\n{sentence}")
    adjusted = sum(line.ours.adjustments_cost_usd for line in lines)
    if adjusted:
        output.line(f"\nAdjustments, {to_usd(adjusted)} USD in all, are left out: Google knows none of them.")


def _explain(line: Line) -> None:
    output.line(f"\n{line.first} {line.model}: {', '.join(_both(line, name) for name in line.differs)}")
    if not line.ours.calls:
        output.line("  no call of it went through this proxy: is the key used elsewhere, or the model named otherwise?")
    elif not line.ours.causes:
        output.line("  nothing in the ledger explains it: is the key used elsewhere, or is a rate another one there?")
    for name, cause in line.ours.causes.items():
        some = ", ".join(cause.record_ids)
        output.line(f"  {cause.calls:,} calls, {to_usd(cause.cost_usd)} USD, {CAUSES[name]} ({some})")


def _both(line: Line, name: str) -> str:
    ours = line.ours.calls if name == "requests" else getattr(line.ours, name)
    google = getattr(line.google, name)
    if name == "cost_usd":
        return f"{to_usd(ours)} USD here, {google or 0:f} there"
    return f"{name} {ours:,} here, {google or 0:,} there"


def _left_out(export: Export) -> list[str]:
    return [f"Left out: {count:,} rows, {cost:f} USD, {reason}." for reason, (count, cost) in export.left_out.items()]
