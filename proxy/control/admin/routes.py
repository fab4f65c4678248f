"""The admin API's paths: one module a resource, one shape for whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerError
from proxy.billing.prices import PriceBook
from proxy.billing.sources import Sources
from proxy.control.admin import adjustments, limits, rerating
from proxy.control.admin.access import Guarded
from proxy.control.admin.problems import Kind, Problem
from proxy.control.admin.upstreams import Upstreams
from proxy.errors import Refusal
from proxy.limits.interface import Limiter
from proxy.store.database import Database, StoreError

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def admin_api(
    *,
    token: str,
    database: Database,
    sources: Sources,
    ledger: Ledger,
    limiter: Limiter,
    book: Callable[[], PriceBook],
    timezone: Callable[[], str],
    now_us: Callable[[], int],
    new_id: Callable[[], str],
    upstreams: Upstreams,
) -> ASGIApp:
    """The ASGI app of `/admin`. Time is Unix microseconds; `book` and `timezone` (of days) tell those in force."""
    adjust = adjustments.endpoint(
        database=database,
        sources=sources,
        ledger=ledger,
        limiter=limiter,
        timezone=timezone,
        now_us=now_us,
        new_id=new_id,
    )
    rerate = rerating.endpoint(
        database=database,
        sources=sources,
        ledger=ledger,
        limiter=limiter,
        book=book,
        timezone=timezone,
        now_us=now_us,
    )
    in_use = limits.endpoint(database=database, limiter=limiter, timezone=timezone, now_us=now_us)
    app = Starlette(
        routes=[
            Route("/v1/adjustments", adjust, methods=["POST"]),
            Route("/v1/adjustments/rerate", rerate, methods=["POST"]),
            Route("/v1/projects/{project}/limits", in_use, methods=["GET"]),
            *upstreams.routes,
        ],
        exception_handlers={
            Problem: _problem,
            HTTPException: _by_status,
            StoreError: _unavailable,
            LedgerError: _unavailable,
            Refusal: _unavailable,
            Exception: _internal,
        },
    )
    app.router.redirect_slashes = False
    return Guarded(app, token)


async def _problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem.response()


async def _by_status(request: Request, error: Exception) -> Response:
    """What the router itself refuses."""
    assert isinstance(error, HTTPException)
    if error.status_code == Kind.METHOD_NOT_ALLOWED.http:
        allowed = (error.headers or {}).get("Allow", "")
        return Problem(
            Kind.METHOD_NOT_ALLOWED, f"This path takes {allowed}, not {request.method}.", headers={"Allow": allowed}
        ).response()
    return Problem(Kind.NOT_FOUND, "There is nothing at this path: docs/admin-api.md has those there are.").response()


async def _unavailable(_: Request, error: Exception) -> Response:
    """The store, the ledger or the limiter can't be had now; each says so in a sentence of its own."""
    return Problem(Kind.UNAVAILABLE, str(error)).response()


async def _internal(_: Request, error: Exception) -> Response:
    """A mistake of ours; the error itself goes on to the log."""
    return Problem(
        Kind.INTERNAL, "The server made a mistake; its log says which. Nothing is known to be done."
    ).response()
