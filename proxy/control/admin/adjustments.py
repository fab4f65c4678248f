"""`POST /admin/v1/adjustments`: adds to a project's bill, or takes off it, through the server's one ledger writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
from proxy.store.database import Database
from proxy.tenants import projects
from proxy.tenants.projects import UnknownProjectError


class Adjustment(bodies.Body):
    """What is asked for. billing/adjustments.py says what each field may be."""

    project: str
    cost_usd: str
    why: str
    of: str | None = None
    record_id: str | None = None


def endpoint(
    *,
    database: Database,
    data_dir: Path,
    ledger: Ledger,
    timezone: Callable[[], str],
    now_us: Callable[[], int],
    new_id: Callable[[], str],
) -> Callable[[Request], Awaitable[Response]]:
    """Makes an adjustment: 201 with its record, or 200 where one of this id and meaning stands already."""

    def prepare(asked: Adjustment, now: int, period: str) -> UsageRecord:
        try:
            projects.show(database, asked.project)
            return adjustments.make(
                reports.ledger_files(data_dir),
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

    def confirm(record: UsageRecord) -> tuple[UsageRecord, bool]:
        try:
            return adjustments.confirm(reports.ledger_files(data_dir), record)
        except AdjustmentConflict as error:
            raise Problem(Kind.CONFLICT, str(error)) from None

    async def adjust(request: Request) -> Response:
        asked = await bodies.read(request, Adjustment)
        now = now_us()
        record = await run_in_threadpool(prepare, asked, now, Days(timezone()).name(now))
        if not ledger.available:
            raise Problem(Kind.UNAVAILABLE, "The ledger can't be written now: its disk is full, or the server ends.")
        await ledger.write(record)
        stands, made = await run_in_threadpool(confirm, record)
        return JSONResponse(to_json(stands), 201 if made else 200)

    return adjust
