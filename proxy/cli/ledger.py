"""`weighbridge ledger`: verify (the ledger against itself), ship (into PostgreSQL), rerate (a period priced anew)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from proxy.billing import retention, shipped_check
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.ledger_slot import owner_of
from proxy.billing.records import to_rfc3339
from proxy.billing.verify import Finding, Summary, Verifier
from proxy.cli import options, output, rerating, shipping
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.config.schema import Storage
from proxy.store.database import StoreError, open_database

app = options.group("The ledger itself: held against itself, shipped, and priced anew.")
app.command()(rerating.rerate)
app.command()(shipping.ship)

MOST_FINDINGS = 1_000
"""Of one file: a broken one may have one for each record."""


class _Verified(NamedTuple):
    summary: Summary
    findings: list[Finding]
    more: int
    """Findings beyond the first thousand."""
    served: bool
    shipped_through: int | None
    """None where there is no PostgreSQL, or it knows nothing of the file."""


@app.command()
def verify(
    data_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--data-dir",
            metavar="PATH",
            help="A data folder; may be given again. Default: that of the configuration.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Check the ledger: every lease, every record's cost and quantities, the numbers, the sums. It changes nothing.

    Where the configuration names PostgreSQL, what was shipped is held against what stands there, too.

    Ends with 1 where anything is wrong.

    Example: `weighbridge ledger verify --data-dir /mnt/copy`
    """
    storage = options.settings(config).storage
    folders = data_dir or [storage.data_dir]
    if empty := [folder for folder in folders if not ledger_files(folder)]:
        raise CommandError(f"there is no ledger in {', '.join(map(str, empty))}: storage.data_dir names the folder")
    verified = [_verify(path, storage) for folder in folders for path in ledger_files(folder)]
    if json:
        output.document({"files": [_document(one) for one in verified]})
    else:
        for one in verified:
            _print(one)
    if any(one.findings for one in verified):
        raise typer.Exit(1)


def _verify(path: Path, storage: Storage) -> _Verified:
    verifier, findings, more = Verifier(path), list[Finding](), 0
    try:
        for finding in verifier:
            if len(findings) < MOST_FINDINGS:
                findings.append(finding)
            else:
                more += 1
    except LedgerUnusable as error:
        findings.append(Finding("file", str(error)))
    through = None
    if storage.database_url:
        try:
            shipped = shipped_check.check(open_database(storage), path)
            through = shipped.through
            findings += shipped.findings
        except (StoreError, LedgerUnusable) as error:
            findings.append(Finding("shipped", str(error)))
    return _Verified(verifier.summary, findings, more, owner_of(path.parent) is not None, through)


def _document(one: _Verified) -> dict[str, Any]:
    before = one.summary.removed_before
    summary = one.summary._asdict() | {"path": str(one.summary.path), "served": one.served}
    summary["removed_before"] = to_rfc3339(before) if before else None
    summary["shipped_through"] = one.shipped_through
    findings = [finding._asdict() for finding in one.findings]
    return summary | {"ok": not findings, "findings": findings, "further_findings": one.more}


def _print(one: _Verified) -> None:
    summary = one.summary
    numbers = f", {summary.first_seq} to {summary.last_seq}" if summary.records else ""
    output.line(f"{summary.path}: {summary.records:,} records{numbers}; {_leases(one)}")
    if summary.removed_through:
        output.line(f"  {retention.told(summary.removed_before)}: up to number {summary.removed_through:,}")
    if one.shipped_through is not None:
        output.line(f"  PostgreSQL has everything up to number {one.shipped_through:,}")
    for finding in one.findings:
        output.line(f"  {finding.check:<9} {f'{finding.record_id}: ' if finding.record_id else ''}{finding.says}")
    if one.more:
        output.line(f"  … and {one.more:,} more")
    output.line("  all is well" if not one.findings else f"  {len(one.findings) + one.more:,} findings")


def _leases(one: _Verified) -> str:
    if not one.summary.open_leases:
        return "no call is open"
    if one.served:
        return f"{one.summary.open_leases:,} calls are under way"
    return f"{one.summary.open_leases:,} calls were under way when the server died: its next start writes them down"
