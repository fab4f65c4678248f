"""`POST /admin/v1/adjustments`: adds to a project's bill, or takes off it, through the server's one ledger writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from proxy.billing import adjustments
from proxy.billing.adjustments import AdjustmentConflict, AdjustmentRefused
from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.records import UsageRecord, to_json
from proxy.billing.sources import Sources
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


def begin(database: Database, sources: Sources, record: UsageRecord, *, actor: str) -> UsageRecord | None:
    """The adjustment to be written, its id claimed; None where it stands already.

    Writes down who makes it, before it is made: none stands without its audit event. Raises AdjustmentConflict,
    AdjustmentUnderWay, StoreError, LedgerUnusable.
    """
    if adjustments.standing(sources.everywhere(), record) is not None:
        return None
    record = adjustments.claimed(sources.postgres, record)
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
    return record


def check_writable(ledger: Ledger) -> None:
    """Raises Problem UNAVAILABLE: asked before an audit event tells of what can't be done."""
    if not ledger.available:
        raise Problem(Kind.UNAVAILABLE, "The ledger can't be written now: its disk is full, or the server ends.")


def count(limiter: Limiter, record: UsageRecord) -> None:
    """Has budgets count an adjustment that was written."""
    spent = Spent(record.project, record.key_id, record.model, record.period, record.cost_usd or 0)
    limiter.settle(record.record_id, {}, spent)


def endpoint(
    *,
    database: Database,
    sources: Sources,
    ledger: Ledger,
    limiter: Limiter,
    timezone: Callable[[], str],
    now_us: Callable[[], int],
    new_id: Callable[[], str],
) -> Callable[[Request], Awaitable[Response]]:
    """Makes an adjustment: 201 with its record, or 200 where one of this id and meaning stands already."""

    def prepare(asked: Adjustment, now: int, period: str) -> tuple[UsageRecord, bool]:
        """The adjustment, and whether it is to be written."""
        try:
            projects.show(database, asked.project)
            record = adjustments.make(
                sources.everywhere(),
                record_id=asked.record_id or adjustments.PREFIX + new_id(),
                project=asked.project,
                cost_usd=asked.cost_usd,
                why=asked.why,
                of=asked.of,
                now_us=now,
                period=period,
            )
            begun = begin(database, sources, record, actor=ACTOR)
        except UnknownProjectError as error:
            raise invalid(Fault("project", str(error))) from None
        except AdjustmentRefused as error:
            raise invalid(Fault(error.field, str(error))) from None
        except AdjustmentConflict as error:
            raise Problem(Kind.CONFLICT, str(error)) from None
        return begun or record, begun is not None

    def confirm(record: UsageRecord) -> tuple[UsageRecord, bool]:
        try:
            return adjustments.confirm(sources.everywhere(), record)
        except AdjustmentConflict as error:
            raise Problem(Kind.CONFLICT, str(error)) from None

    async def adjust(request: Request) -> Response:
        asked = await bodies.read(request, Adjustment)
        check_writable(ledger)
        now = now_us()
        record, new = await run_in_threadpool(prepare, asked, now, Days(timezone()).name(now))
        if new:
            await ledger.write(record)
        stands, made = await run_in_threadpool(confirm, record)
        if made:
            count(limiter, record)
        return JSONResponse(to_json(stands), 201 if made else 200)

    return adjust
