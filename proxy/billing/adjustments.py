"""Adjustments: what is added to a project's bill or taken off it by hand. Each is a record of its own, with its why."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from proxy.billing import claims, reports, retention
from proxy.billing.ledger_errors import LedgerError, LedgerUnusable
from proxy.billing.ledger_file import MIB, LedgerFile, describe
from proxy.billing.records import UsageRecord, from_usd, to_row
from proxy.billing.sources import Source, is_shipped
from proxy.store.database import Database
from proxy.telemetry.redaction import redact

KIND = "adjustment"
"""Also its operation: so the hourly sums, which know no kinds, tell adjustments apart."""
PREFIX = "adj_"
"""Of their ids, which clients may choose. A call's has none: nobody can take the place of a call that is under way."""
RERATED = f"{PREFIX}rerate-"
"""Of the ids of those that `ledger rerate` makes: billing/rerating.py."""
MOST_USD = 1_000_000
MOST_WHY = 500

_ID = re.compile(rf"{PREFIX}[0-9A-Za-z_-]{{1,60}}")


class AdjustmentRefused(Exception):
    """An adjustment that can't be made. `field` is the one at fault; the text says why, and what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class AdjustmentConflict(Exception):
    """Its id is another adjustment's."""


class AdjustmentUnderWay(LedgerError):
    """Another process has claimed its id, and its record isn't in the ledger yet."""


def make(
    sources: Sequence[Source],
    *,
    record_id: str,
    project: str,
    cost_usd: str,
    why: str,
    of: str | None,
    now_us: int,
    period: str,
) -> UsageRecord:
    """An adjustment of a project that exists, as its record. Nothing is written.

    `cost_usd` is dollars, as a plain decimal number. `of` is the id of a record in `sources` that it corrects: the
    adjustment is then of that record's key and model as well. It stands in the bill of `period`, the day of `now_us`:
    bills of days gone by stay as they were. Raises AdjustmentRefused, LedgerUnusable, StoreError.
    """
    if not _ID.fullmatch(record_id):
        raise AdjustmentRefused("record_id", f"an adjustment's id is {PREFIX} and 1 to 60 letters, digits, - or _")
    if record_id.startswith(RERATED):
        raise AdjustmentRefused("record_id", f"ids that begin with {RERATED} are given by `weighbridge ledger rerate`")
    if not why.strip() or len(why) > MOST_WHY or not why.isprintable():
        raise AdjustmentRefused("why", f"say why in one line of at most {MOST_WHY} characters")
    if redact(why) != why:  # it stands in the ledger and in the audit for good
        raise AdjustmentRefused("why", "there is a key in it, or what looks like one: say why without it")
    nano_dollars = _amount(cost_usd)
    corrected = None if of is None else _corrected(sources, of, project)
    return UsageRecord(
        record_id=record_id,
        kind=KIND,
        request_id=corrected.request_id if corrected else "",
        caused_by=of,
        started_at=now_us,
        finished_at=now_us,
        project=project,
        key_id=corrected.key_id if corrected else "",
        key_name=corrected.key_name if corrected else "",
        upstream=corrected.upstream if corrected else "",
        operation=KIND,
        model=corrected.model if corrected else "",
        model_asked=corrected.model_asked if corrected else "",
        service_tier=corrected.service_tier if corrected else None,
        outcome="ok",
        cost_usd=nano_dollars,
        period=period,
        hint=why.strip(),
    )


def standing(sources: Iterable[Source], record: UsageRecord) -> UsageRecord | None:
    """What stands in the ledger under the record's id; None where nothing does.

    A second adjustment with an id changes nothing. Raises AdjustmentConflict where it asks for something else,
    LedgerUnusable, StoreError.
    """
    stands = reports.find(sources, record.record_id)
    if stands is not None:
        _check_means(stands, record)
    return stands


def claimed(postgres: Database | None, record: UsageRecord) -> UsageRecord:
    """Claims the id of a record that doesn't stand yet; the record to be written. Without PostgreSQL there is no need.

    Raises AdjustmentConflict, AdjustmentUnderWay, StoreError.
    """
    [claim] = claims.claim(postgres, [record])
    _check_means(claim.record, record)
    if not claim.free:
        raise AdjustmentUnderWay(
            f"{record.record_id} is being written by another node, or by another process here: try again in a minute"
        )
    return claim.record


def claimed_alike(postgres: Database | None, records: Sequence[UsageRecord]) -> list[UsageRecord]:
    """Those of the records that are to be written now: no other process makes them, or made something else of their
    ids. Raises StoreError."""
    found = zip(records, claims.claim(postgres, records), strict=True)
    return [claim.record for record, claim in found if claim.free and _meaning(claim.record) == _meaning(record)]


def confirm(sources: Iterable[Source], record: UsageRecord) -> tuple[UsageRecord, bool]:
    """What stands in the ledger under the record's id, after it was written; and whether that is this writing's.

    Raises AdjustmentConflict, LedgerUnusable, StoreError.
    """
    stands = standing(sources, record)
    if stands is None:
        raise LedgerUnusable(f"{record.record_id} was written, and can't be found in the ledger: look at its disk.")
    return stands, stands == record


def _check_means(stands: UsageRecord, record: UsageRecord) -> None:
    if _meaning(stands) != _meaning(record):
        raise AdjustmentConflict(
            f"There is another adjustment {record.record_id} in the ledger. Leave the id out, or choose another one."
        )


def write_alone(data_dir: Path, record: UsageRecord) -> None:
    """Writes the record where no server runs, under the ledger's lock. Raises LedgerLocked, LedgerUnusable."""
    write_batches_alone(data_dir, [[record]])


def write_batches_alone(data_dir: Path, batches: Iterable[Sequence[UsageRecord]]) -> int:
    """Writes records where no server runs, under the ledger's lock: each batch in one commit. Returns how many.

    Calls that a dead server left open stay so. Raises LedgerLocked, LedgerUnusable.
    """
    written = 0
    file = LedgerFile.open(data_dir, busy_timeout_s=10, ballast_bytes=64 * MIB, random=os.urandom)
    with closing(file):
        for batch in batches:
            try:
                file.commit([], [to_row(record) for record in batch], [])
            except sqlite3.Error as error:
                raise LedgerUnusable(f"{file.path} can't be written: {describe(error)}. Look at its disk.") from error
            written += len(batch)
    return written


def _amount(cost_usd: str) -> int:
    try:
        nano_dollars = from_usd(cost_usd)
    except ValueError as error:
        raise AdjustmentRefused("cost_usd", str(error)) from None
    if not nano_dollars or abs(nano_dollars) > from_usd(str(MOST_USD)):
        raise AdjustmentRefused("cost_usd", f"an adjustment is of at most {MOST_USD:,} USD, up or down, and not of 0")
    return nano_dollars


def _corrected(sources: Sequence[Source], record_id: str, project: str) -> UsageRecord:
    found = reports.find(sources, record_id)
    if found is None:
        since = retention.records_since(sources)
        gone = f". {retention.told(since)}: leave it out, and name the call in the reason" if since else ""
        late = ". One that another node has just written gets here in a moment: try again" if _shipped(sources) else ""
        raise AdjustmentRefused(
            "of",
            f"there is no record {record_id[:64]!r} in the ledger; `weighbridge usage export` has their ids"
            f"{late}{gone}",
        )
    if found.project != project:
        raise AdjustmentRefused("of", f"record {record_id!r} is of another project, {found.project!r}")
    return found


def _shipped(sources: Iterable[Source]) -> bool:
    return any(map(is_shipped, sources))


def _meaning(record: UsageRecord) -> tuple[object, ...]:
    return record.kind, record.project, record.cost_usd, record.caused_by, record.hint
