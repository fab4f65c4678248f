"""`POST /admin/v1/adjustments`: adds to a project's bill, or takes off it, through the server's one ledger writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from proxy.billing import adjustments, reports
from proxy.billing.adjustments import AdjustmentConflict, AdjustmentRefused
from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.records import UsageRecord, to_json
from proxy.control.admin import bodies
from proxy.control.admin.problems import Fault, Kind, Problem, invalid
from proxy.limits.interface import Limiter, Spent
from proxy.store.database import Database
from proxy.tenants import audit, projects
from proxy.tenants.projects import UnknownProjectError


class Adjustment(bodies.Body):
    """What is asked for. billing/adjustments.py says what each field may be."""

    project: str
    cost_usd: str
    why: str
    of: str | None = None
    record_id: str | None = None


ACTOR = "admin"
"""Who changes things by the admin API, as audit events name them: one token is all that is known."""


def note(database: Database, files: Sequence[Path], record: UsageRecord, *, actor: str) -> None:
    """Writes down who makes an adjustment, before it is made: none stands without its audit event.

    Nothing where the record stands in `files` already. Raises StoreError, LedgerUnusable.
    """
    if reports.find(files, record.record_id) is not None:
        return
    made = to_json(record)
    after = {"record_id": record.record_id, "cost_usd": made["cost_usd"], "why": record.hint, "of": record.caused_by}
    key_id = record.key_id or None
    with database.noting() as connection:
        audit.note(
            connection,
            "adjustment.create",
            record.project,
            key_id,
            at=record.started_at,
            actor=actor,
            before={},
            after=after,
        )


def count(limiter: Limiter, record: UsageRecord) -> None:
    """Has budgets count an adjustment that was written."""
    spent = Spent(record.project, record.key_id, record.model, record.period, record.cost_usd or 0)
    limiter.settle(record.record_id, {}, spent)


def endpoint(
    *,
    database: Database,
    data_dir: Path,
    ledger: Ledger,
    limiter: Limiter,
    timezone: Callable[[], str],
    now_us: Callable[[], int],
    new_id: Callable[[], str],
) -> Callable[[Request], Awaitable[Response]]:
    """Makes an adjustment: 201 with its record, or 200 where one of this id and meaning stands already."""

    def prepare(asked: Adjustment, now: int, period: str) -> UsageRecord:
        files = reports.ledger_files(data_dir)
        try:
            projects.show(database, asked.project)
            record = adjustments.make(
                files,
                record_id=asked.record_id or adjustments.PREFIX + new_id(),
                project=asked.project,
                cost_usd=asked.cost_usd,
                why=asked.why,
                of=asked.of,
                now_us=now,
                period=period,
            )
        except UnknownProjectError as error:
            raise invalid(Fault("project", str(error))) from None
        except AdjustmentRefused as error:
            raise invalid(Fault(error.field, str(error))) from None
        note(database, files, record, actor=ACTOR)
        return record

    def confirm(record: UsageRecord) -> tuple[UsageRecord, bool]:
        try:
            return adjustments.confirm(reports.ledger_files(data_dir), record)
        except AdjustmentConflict as error:
            raise Problem(Kind.CONFLICT, str(error)) from None

    async def adjust(request: Request) -> Response:
        asked = await bodies.read(request, Adjustment)
        if not ledger.available:  # before an audit event tells of what can't be done
            raise Problem(Kind.UNAVAILABLE, "The ledger can't be written now: its disk is full, or the server ends.")
        now = now_us()
        record = await run_in_threadpool(prepare, asked, now, Days(timezone()).name(now))
        await ledger.write(record)
        stands, made = await run_in_threadpool(confirm, record)
        if made:
            count(limiter, record)
        return JSONResponse(to_json(stands), 201 if made else 200)

    return adjust
