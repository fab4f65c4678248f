"""`weighbridge usage`: report (the bill), export (the records), adjust (the bill, by hand); reconcile: reconcile.py."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from proxy.billing import adjustments, export_formats, reports, retention
from proxy.billing.adjustments import AdjustmentConflict, AdjustmentRefused
from proxy.billing.exports import CursorRefused, Export
from proxy.billing.periods import Days
from proxy.billing.records import as_cell, csv_lines, id_maker, to_json, to_rfc3339, to_usd
from proxy.billing.reports import Dimension, ReportRow
from proxy.billing.sources import Source, Sources
from proxy.cli import control, options, output, reconcile, times, unshipped
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.schema import Settings, Storage
from proxy.control.admin.adjustments import begin
from proxy.store.database import open_database
from proxy.store.folders import write_file
from proxy.store.sqlite import FILE_NAME
from proxy.tenants import keys, projects

app = options.group("What calls used and cost. Reads the ledger, also while a server writes it.")

_SUMS = ReportRow.__struct_fields__[1:]
_COLUMNS = {
    "CALLS": "calls",
    "PROMPT": "prompt_token_count",
    "CACHED": "cached_content_token_count",
    "OUTPUT": "output_token_count",
    "IMAGES": "images",
    "SEARCHES": "searches",
    "USD": "cost_usd",
}
_RARE = {"ESTIMATED": "estimated_cost_usd", "ADJUSTED": "adjustments_cost_usd", "UNPRICED": "unpriced_calls"}
"""Of USD, the part that is billed by estimate, and the part made by hand; calls that USD leaves out."""


class Format(StrEnum):
    """How records are printed."""

    JSONL = "jsonl"
    CSV = "csv"
    FOCUS = "focus"


TIME = "A day (2026-11-01) or a time (2026-11-01T12:00), in `limits.timezone` unless it names its offset."
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help=f"Calls that started from then on. {TIME}", show_default=False),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Calls that started before then.", show_default=False)
]
ByOption = Annotated[
    str, typer.Option("--by", metavar="WORDS", help=f"With commas between, any of: {', '.join(reports.DIMENSIONS)}.")
]


@app.command()
def report(
    by: ByOption = "project,model",
    since: SinceOption = None,
    until: UntilOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV with a head, for spreadsheets.", show_default=False)
    ] = False,
) -> None:
    """Print the bill: calls, tokens, images and cost in USD, summed by project, key, model, day …

    It counts whole hours; days are those of `limits.timezone`.

    Example: `weighbridge usage report --by project,day --since 2026-11-01`
    """
    if json and csv:
        raise CommandError("--json and --csv don't go together: choose one")
    settings = options.settings(config)
    timezone, sources = settings.limits.timezone, options.sources(settings)
    period = times.period(since, until, timezone)
    words = cast("list[Dimension]", [word.strip() for word in by.split(",") if word.strip()])
    bill = sources.bill()
    shipped = unshipped.tell(sources)
    try:
        rows = reports.report(bill, words, *period, timezone)
    except ValueError as error:
        raise CommandError(str(error)) from None
    total, kept_from = reports.total(rows), retention.records_since(bill)
    by_model = reports.report(bill, ["model"], *period, timezone) if total.unpriced_calls else []
    unpriced = {row.group["model"]: row.unpriced_calls for row in by_model if row.unpriced_calls}
    prepaid = _prepaid(settings.storage, bill)
    if json:
        asked = {"by": words, "since": since, "until": until, "timezone": timezone}
        sums = {"rows": [reports.to_json(row) for row in rows], "total": reports.to_json(total)}
        more = {"prepaid": prepaid, "records_since": to_rfc3339(kept_from) if kept_from else None}
        output.document(asked | sums | {"unpriced": unpriced} | more | shipped)
    elif csv:
        _print_csv(words, rows)
    elif rows:
        names = {key.id: key.name for key in keys.list_keys(open_database(settings.storage))} if "key" in words else {}
        _print(words, rows, total, names)
        _print_notes(rows, total)
        _tell_unpriced(unpriced)
        _tell_prepaid(prepaid)
        if kept_from and kept_from > reports.within(*period)[0]:
            output.line(f"\n{retention.told(kept_from)}: these sums have them, `weighbridge usage export` hasn't.")
    else:
        output.line(f"No such calls in the ledger of {sources.postgres or sources.data_dir}.")


def _print_csv(words: Sequence[str], rows: Sequence[ReportRow]) -> None:
    cells = [[as_cell(name, value) for name, value in reports.to_json(row).items()] for row in rows]
    sys.stdout.write(csv_lines([(*words, *_SUMS), *cells]))


def _print(words: Sequence[str], rows: Sequence[ReportRow], total: ReportRow, names: dict[str, str]) -> None:
    """Columns of what is rare stand there only where there is some of it."""
    columns = _COLUMNS | {head: name for head, name in _RARE.items() if any(getattr(row, name) for row in rows)}
    lines = [[*(_name(word, row.group[word], names) for word in words), *_cells(row, columns)] for row in rows]
    if words:
        lines.append(["total", *[""] * (len(words) - 1), *_cells(total, columns)])
    heads = [*(word.upper() for word in words), *columns]
    output.table(heads, lines, right=range(len(words), len(heads)))


def _print_notes(rows: Sequence[ReportRow], total: ReportRow) -> None:
    if total.estimated_calls:
        estimated = to_usd(total.estimated_cost_usd)
        are = "is" if total.estimated_calls == 1 else "are"
        output.line(f"\n{total.estimated_calls:,} of these calls, {estimated} USD, {are} billed by estimate.")
    if any(row.adjustments_cost_usd for row in rows):
        output.line(
            f"\n{to_usd(total.adjustments_cost_usd)} USD of it are adjustments, made by hand or by `ledger rerate`: "
            "`weighbridge usage export` has each with its reason."
        )


def _prepaid(storage: Storage, bill: Sequence[Source]) -> list[dict[str, str]]:
    """What of the projects' credit is left, whatever period is reported: it is for all time."""
    there = storage.database_url or (storage.data_dir / FILE_NAME).exists()  # a ledger may stand alone
    database = open_database(storage) if there else None
    of = projects.list_projects(database) if database else []
    credited = {project.name: usd for project in of if (usd := projects.prepaid(project)) is not None}
    spent = reports.report(bill, ["project"]) if credited else ()
    sums = dict.fromkeys(credited, 0) | {row.group["project"]: row.cost_usd for row in spent}
    return [
        {
            "project": project,
            "credit_usd": to_usd(usd),
            "spent_usd": to_usd(sums[project]),
            "left_usd": to_usd(usd - sums[project]),
        }
        for project, usd in credited.items()
    ]


def _tell_prepaid(prepaid: Sequence[dict[str, str]]) -> None:
    if prepaid:
        output.line()
        rows = [tuple(one.values()) for one in prepaid]
        output.table(("PREPAID", "CREDIT USD", "SPENT EVER", "LEFT"), rows, right=(1, 2, 3))


def _tell_unpriced(unpriced: dict[str, int]) -> None:
    """Calls that had no price when they were written: by the model that went up."""
    if not unpriced:
        return
    output.line()
    for model, calls in unpriced.items():
        output.line(f"unpriced: model {model}, {calls:,} calls")
    output.line(
        "They were made without a price, and count in the sum once `weighbridge ledger rerate` has priced them: "
        "give their models one with [[prices]] in the configuration, or with `weighbridge prices update`."
    )


def _cells(row: ReportRow, columns: dict[str, str]) -> list[str]:
    values = ((name, getattr(row, name)) for name in columns.values())
    return [to_usd(value) if name.endswith("cost_usd") else f"{value:,}" for name, value in values]


def _name(word: str, value: str, names: dict[str, str]) -> str:
    """An adjustment may be of no key and no model."""
    return f"{value} ({names[value]})" if word == "key" and value in names else value or "-"


@app.command()
def export(
    format_: Annotated[
        Format, typer.Option("--format", help="JSON, a line each; CSV with a head; or the columns of FOCUS 1.2 as CSV.")
    ] = Format.JSONL,
    since: SinceOption = None,
    until: UntilOption = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="CURSOR", help="Go on behind where an export ended.", show_default=False),
    ] = None,
    cursor_file: Annotated[
        Path | None,
        typer.Option(
            "--cursor-file",
            metavar="PATH",
            help="Go on behind the cursor in this file, where it is there, and write the next one into it.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the usage records, one a call, in the order in which they were written.

    The last line on standard error is the cursor to go on from: `next: CURSOR`.

    Example: `weighbridge usage export --format csv --since 2026-11-01 > november.csv`
    """
    settings = options.settings(config)
    timezone = settings.limits.timezone
    if after is None and cursor_file is not None and cursor_file.exists():
        after = cursor_file.read_text()
    period, sources = times.period(since, until, timezone), options.sources(settings)
    printed = sys.stdout.buffer
    unshipped.tell(sources)
    try:
        stream = Export(sources.bill(), *period, after, export_formats.READ[format_])
    except CursorRefused as error:
        raise CommandError(str(error)) from None
    for source, removed in stream.missed:
        typer.echo(f"{retention.told(removed.before)} from {source}, up to number {removed.through:,}.", err=True)
    for file_id in stream.unshipped:
        typer.echo(f"PostgreSQL isn't as far as the cursor in ledger file {file_id}: nothing new of it yet.", err=True)
    printed.write(export_formats.HEADS[format_.value])
    printed.writelines(map(export_formats.FORMATS[format_.value], stream))
    printed.flush()
    if cursor_file is not None:
        write_file(cursor_file, f"{stream.cursor}\n")
    typer.echo(f"next: {stream.cursor}", err=True)


# Else -1.50 would be taken for an option.
@app.command(context_settings={"ignore_unknown_options": True})
def adjust(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Whose bill.")],
    usd: Annotated[str, typer.Argument(metavar="USD", help="What is added; with a minus, what is taken off.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason: it stands in the record.")],
    of: Annotated[
        str | None, typer.Option("--of", metavar="RECORD_ID", help="The record that it corrects.", show_default=False)
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Its id (adj_…): given twice, it counts once.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Correct a project's bill: write a record that adds to it, or takes off it. Nothing is ever changed or removed.

    Where a server runs, it writes; where none runs, this command does.

    Example: `weighbridge usage adjust alice -1.50 --why 'the picture of Monday was torn'`
    """
    settings = options.settings(config)
    asked = {"project": project, "cost_usd": usd, "why": why, "of": of, "record_id": id_ or _new_id()}
    door = control.running(settings)
    try:
        record = _adjust_alone(settings, asked) if door is None else door.post("adjustments", asked)
    except control.Unanswered as error:
        again = f"whether it counts isn't known: with --id {asked['record_id']} it can be given again, and counts once"
        raise CommandError(f"{error}\n{again}") from None
    if json:
        output.document(record)
    else:
        output.line(f"{record['cost_usd']} USD on the bill of {project}, as {record['record_id']}.")


def _new_id() -> str:
    return adjustments.PREFIX + id_maker(lambda: unix_us() // 1000, secrets.token_bytes)()


def _adjust_alone(settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
    """The record as JSON has it. Raises CommandError, TenancyError, StoreError, LedgerError."""
    database, now = open_database(settings.storage), unix_us()
    sources = Sources.of(settings.storage, database)
    projects.show(database, asked["project"])
    period = Days(settings.limits.timezone).name(now)
    try:
        record = adjustments.make(sources.everywhere(), **asked, now_us=now, period=period)
        if begun := begin(database, sources, record, actor=options.actor()):
            record = begun
            adjustments.write_alone(sources.data_dir, record)
        return to_json(adjustments.confirm(sources.everywhere(), record)[0])
    except (AdjustmentRefused, AdjustmentConflict) as error:
        raise CommandError(str(error)) from None


reconcile.register(app)
