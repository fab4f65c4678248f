"""`POST /admin/v1/adjustments/rerate`: records priced anew, through the server's one ledger writer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import groupby
from typing import Annotated

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from proxy.billing import adjustments, rerating
from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord, to_usd
from proxy.billing.sources import Sources
from proxy.control.admin import bodies
from proxy.control.admin.adjustments import ACTOR, check_writable, count
from proxy.control.admin.problems import Fault, invalid
from proxy.limits.interface import Limiter
from proxy.store.database import Database
from proxy.tenants import audit


class Difference(bodies.Body):
    """A record, and what its price in force differs by from what stands on the bill for it."""

    of: str
    cost_usd: str


class Rerating(bodies.Body):
    """What is asked for: so that nothing is written that wasn't shown, each difference is said."""

    differences: Annotated[list[Difference], Field(min_length=1, max_length=rerating.PAGE)]


def note(database: Database, records: Iterable[UsageRecord], *, actor: str) -> None:
    """Writes down who has records priced anew, before the adjustments are made: an event for each project."""
    with database.noting() as connection:
        for project, group in groupby(sorted(records, key=_project), key=_project):
            made = list(group)
            total = sum(record.cost_usd or 0 for record in made)
            audit.note(
                connection,
                "ledger.rerate",
                project,
                at=made[0].started_at,
                actor=actor,
                before={},
                after={"adjustments": len(made), "cost_usd": to_usd(total)},
            )


def endpoint(
    *,
    database: Database,
    sources: Sources,
    ledger: Ledger,
    limiter: Limiter,
    book: Callable[[], PriceBook],
    timezone: Callable[[], str],
    now_us: Callable[[], int],
) -> Callable[[Request], Awaitable[Response]]:
    """Makes an adjustment for each difference: answers how many were made. One that was made before isn't made again,
    nor one that another node makes now.

    422, and nothing is written, where a difference isn't that of the price in force here.
    """

    def prepare(asked: list[Difference], now: int, period: str) -> list[UsageRecord]:
        record_ids = [each.of for each in asked]
        found = rerating.rerate_these(sources.bill(), book(), record_ids, sources.unshipped_files())
        made = []
        for each in asked:
            difference = found[each.of].difference if each.of in found else None
            if difference == 0:
                continue  # made before
            if difference is None or to_usd(difference) != each.cost_usd:
                raise invalid(Fault("differences", _otherwise(each, difference)))
            made.append(rerating.adjustment(found[each.of], now_us=now, period=period))
        made = adjustments.claimed_alike(sources.postgres, made)
        note(database, made, actor=ACTOR)
        return made

    one_at_a_time = asyncio.Lock()

    async def rerate(request: Request) -> Response:
        asked = await bodies.read(request, Rerating)
        async with one_at_a_time:  # else two would find the same differences, and budgets would count them twice
            check_writable(ledger)
            now = now_us()
            made = await run_in_threadpool(prepare, asked.differences, now, Days(timezone()).name(now))
            await asyncio.gather(*(ledger.write(record) for record in made))
            for record in made:
                count(limiter, record)
        return JSONResponse({"adjustments": len(made), "cost_usd": to_usd(sum(each.cost_usd or 0 for each in made))})

    return rerate


def _project(record: UsageRecord) -> str:
    return record.project


def _otherwise(asked: Difference, difference: int | None) -> str:
    if difference is None:
        return f"there is no record {asked.of[:64]!r} in the ledger that can be priced anew"
    return (
        f"the price in force here changes record {asked.of[:64]!r} by {to_usd(difference)} USD and not by "
        f"{asked.cost_usd[:32]!r}: the server's price book or [[prices]] are others, or another rerates now. Try again"
    )
