"""`GET /admin/v1/projects/{project}/limits`: what is used of each limit of a project and of its keys, now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from proxy.billing.periods import Days
from proxy.billing.records import to_rfc3339, to_usd
from proxy.control.admin.problems import Kind, Problem
from proxy.limits.interface import WINDOWS, Counter, Limiter, Taken, counters, period
from proxy.store.database import Database
from proxy.tenants import keys, projects
from proxy.tenants.projects import UnknownProjectError


class Configured(NamedTuple):
    """The counters of a project and of those of its keys that are served, and the keys' names by id."""

    counters: tuple[Counter, ...]
    key_names: Mapping[str, str]


def configured(database: Database, project: str, now_us: int) -> Configured:
    """What is limited. Raises UnknownProjectError, StoreError."""
    found = list(counters(project, "", projects.show(database, project).limits, ()))
    active = [key for key in keys.list_keys(database, project) if key.state(now_us) == "active"]
    for key in active:
        found += counters(project, key.id, (), key.limits)
    return Configured(tuple(found), {key.id: key.name for key in active})


async def in_use(limiter: Limiter, project: str, limited: Configured, days: Days, now_us: int) -> dict[str, Any]:
    """What is used of each, as JSON has it. Raises ProxyRefused LIMITER_UNAVAILABLE."""
    day, ends = days.name(now_us), to_rfc3339(days.end(now_us))
    used = await limiter.used(day, limited.counters) if limited.counters else []
    return {
        "project": project,
        "counted_in": limiter.counted_in,
        "day": day,
        "day_ends_at": ends,
        "limits": [
            {
                "kind": counter.kind,
                "model": counter.model,
                "scope": "key" if counter.key_id else "project",
                "key_id": counter.key_id or None,
                "key_name": limited.key_names.get(counter.key_id),
                "shadow": counter.shadow,
                **(_money(counter, taken, days, now_us) if counter.per else _number(counter, taken, ends)),
            }
            for counter, taken in zip(limited.counters, used, strict=True)
        ],
    }


def _number(counter: Counter, taken: Taken, day_ends_at: str | None) -> dict[str, Any]:
    return {
        "value": counter.value,
        "used": taken.used,
        "window_seconds": WINDOWS.get(counter.kind),
        "resets_at": day_ends_at if counter.kind == "rpd" else None,
    }


def _money(counter: Counter, taken: Taken, days: Days, now_us: int) -> dict[str, Any]:
    """USD as decimal strings. `used` is what is spent and what is held for calls in flight, of which `held` is part."""
    ends = days.period_end(counter.per, now_us)
    return {
        "value": to_usd(counter.value),
        "used": to_usd(taken.used),
        "held": to_usd(taken.held),
        "per": counter.per,
        "period": period(counter.per, days.name(now_us)),
        "window_seconds": None,
        "resets_at": None if ends is None else to_rfc3339(ends),
    }


def endpoint(
    *, database: Database, limiter: Limiter, timezone: Callable[[], str], now_us: Callable[[], int]
) -> Callable[[Request], Awaitable[Response]]:
    """Answers with `in_use`."""

    async def limits(request: Request) -> Response:
        project, now = request.path_params["project"], now_us()
        try:
            limited = await run_in_threadpool(configured, database, project, now)
        except UnknownProjectError as error:
            raise Problem(Kind.NOT_FOUND, str(error)) from None
        return JSONResponse(await in_use(limiter, project, limited, Days(timezone()), now))

    return limits
