"""`weighbridge ledger ship`: the ledger files of a disk, such as a dead node's, into PostgreSQL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.billing import shipped_check
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.periods import Days
from proxy.billing.records import UsageRecord
from proxy.cli import control, options, output, progress
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.control.shipper import ship_folder
from proxy.store.database import Database, open_database


def ship(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data folder: the one that holds `ledger/`.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Ship the ledger files of a folder to the configuration's PostgreSQL, where no server does: of a dead node's disk.

    Calls that were under way when their server died are written down as unsettled first. What PostgreSQL has already is
    passed over: done twice, or broken off and done again, it is the same. Records stay in their files.

    Example: `weighbridge ledger ship /mnt/dead-node/weighbridge-data`
    """
    settings = options.settings(config)
    database = open_database(settings.storage)
    if not database.postgresql:
        raise CommandError("there is no PostgreSQL to ship to: storage.database_url names it")
    if not ledger_files(folder):
        raise CommandError(f"there is no ledger in {folder}: name the folder that holds `ledger/`")
    served = "a server runs on it, and ships it by itself where it has a PostgreSQL; else stop it first"
    with control.held(folder, served):
        closed_out = _ship(settings, database, folder)
    _tell(database, folder, closed_out, json)


def _ship(settings: Settings, database: Database, folder: Path) -> Counter[str]:
    """Ships all there is; by file_id, how many calls were still open. Raises StoreError."""
    closed_out = Counter[str]()

    def on_closed_out(file_id: str, records: list[UsageRecord]) -> None:
        closed_out[file_id] += len(records)

    with progress.shown("shipped") as on_left:
        ship_folder(database, folder, unix_us, Days(settings.limits.timezone).name, on_left, on_closed_out)
    return closed_out


def _tell(database: Database, folder: Path, closed_out: Counter[str], json: bool) -> None:
    """What PostgreSQL has now of each file; ends with 1 where that isn't all."""
    told = []
    for path in ledger_files(folder):
        found = shipped_check.check(database, path)
        findings = [finding._asdict() for finding in found.findings]
        whole = found.through is not None and not found.unshipped and not findings
        told.append(
            {
                "path": str(path),
                "file_id": found.file_id,
                "shipped_through": found.through,
                "unshipped": found.unshipped,
                "closed_out": closed_out[found.file_id],
                "ok": whole,
                "findings": findings,
            }
        )
    if json:
        output.document({"files": told})
    else:
        for one in told:
            _print(one)
    if not all(one["ok"] for one in told):
        raise typer.Exit(1)


def _print(one: dict[str, Any]) -> None:
    shipped = "nothing of it" if one["shipped_through"] is None else f"everything up to number {one['shipped_through']}"
    left = f"; {one['unshipped']:,} records are left" if one["unshipped"] else ""
    output.line(f"{one['path']}: PostgreSQL has {shipped}{left}")
    if one["closed_out"]:
        were = "call was" if one["closed_out"] == 1 else "calls were"
        output.line(f"  {one['closed_out']:,} {were} open when its server died: written down as unsettled")
    for finding in one["findings"]:
        output.line(f"  {finding['record_id'] + ': ' if finding['record_id'] else ''}{finding['says']}")
