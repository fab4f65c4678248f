"""`/admin/v1/upstreams`: how each upstream of the pool is, now; `…/{name}/disable` and `…/{name}/enable`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.billing.records import to_rfc3339, to_usd
from proxy.config.upstreams import Upstream as Configured
from proxy.control.admin.adjustments import ACTOR
from proxy.control.admin.problems import Kind, Problem
from proxy.errors import Refusal
from proxy.gemini import edits
from proxy.store.database import Database
from proxy.telemetry.redaction import redact
from proxy.tenants import disabled_upstreams
from proxy.upstreams.health import ALL_MODELS, Health, Outage
from proxy.upstreams.pool import Pool
from proxy.upstreams.upstream import Upstream

LONGEST = 200
"""Characters that are shown of what an upstream said."""

Quota = Sequence[tuple[str, str, int, int]]
"""Of each counter of an upstream's own quota: kind, model, how much is used, its value. Money is nano-dollars."""


class Upstreams:
    """Tells of the pool in force, and switches its upstreams off and on."""

    def __init__(
        self,
        *,
        database: Database,
        configured: Callable[[], Sequence[Configured]],
        pool: Callable[[], Pool],
        disabled: Callable[[], Mapping[str, int]],
        refresh: Callable[[], Awaitable[object]],
        now_us: Callable[[], int],
        quota: Callable[[str], Awaitable[Quota]],
    ) -> None:
        """`disabled`: since when which are, as this process knows; `refresh` has it look at the database now.

        `quota` tells what is used of an upstream's own quota; it may raise ProxyRefused.
        """
        self._database = database
        self._configured = configured
        self._pool = pool
        self._disabled = disabled
        self._refresh = refresh
        self._now_us = now_us
        self._quota = quota
        self.routes = [
            Route("/v1/upstreams", self._list, methods=["GET"]),
            Route("/v1/upstreams/{name}/disable", self._disable, methods=["POST"]),
            Route("/v1/upstreams/{name}/enable", self._enable, methods=["POST"]),
        ]

    async def told(self) -> dict[str, Any]:
        """All of them, those first that are asked first."""
        configured = {one.name: one for one in self._configured()}
        pool = self._pool()
        return {"upstreams": [await self._told(configured[one.name], one, pool.health) for one in pool.upstreams]}

    async def _list(self, _: Request) -> Response:
        return JSONResponse(await self.told())

    async def _disable(self, request: Request) -> Response:
        name = request.path_params["name"]
        names = [one.name for one in self._configured()]
        if name not in names:
            raise Problem(Kind.NOT_FOUND, disabled_upstreams.unknown(name, names))
        await run_in_threadpool(disabled_upstreams.disable, self._database, name, self._now_us(), actor=ACTOR)
        await self._refresh()
        return JSONResponse(await self.told())

    async def _enable(self, request: Request) -> Response:
        name = request.path_params["name"]
        names = [one.name for one in self._configured()]
        was = await run_in_threadpool(disabled_upstreams.enable, self._database, name, self._now_us(), actor=ACTOR)
        if not was and name not in names:
            raise Problem(Kind.NOT_FOUND, disabled_upstreams.unknown(name, names))
        await self._refresh()
        return JSONResponse(await self.told())

    async def _told(self, configured: Configured, upstream: Upstream, health: Health) -> dict[str, Any]:
        name, error, latency_s = upstream.name, upstream.observed.last_error, upstream.observed.latency_s
        since = self._disabled().get(name)
        outages = sorted(health.outages(name), key=lambda outage: outage[0])
        return description(configured) | {
            "state": _state(name in health.disabled, [model for model, _ in outages]),
            "disabled_at": None if since is None else to_rfc3339(since),
            "outages": [self._outage(model, outage, health.now()) for model, outage in outages],
            "quota": await self._used(name),
            "last_error": error
            and {"at": self._moment(error.at - health.now()), "what": _what(error.what, error.body, upstream.secret)},
            "latency_ms": None if latency_s is None else round(latency_s * 1000, 1),
            "in_flight": upstream.in_flight,
        }

    def _outage(self, model: str, outage: Outage, now: float) -> dict[str, Any]:
        said = outage.exhausted.error if outage.exhausted else None
        message = said.get("message") if said else None
        return {
            "model": model,
            "why": outage.why,
            "until": self._moment(outage.until - now),
            "said": _shown(message) if isinstance(message, str) else None,
        }

    async def _used(self, name: str) -> list[dict[str, Any]] | None:
        """None while it can't be asked for: the rest is of use without it."""
        try:
            quota = await self._quota(name)
        except Refusal:
            return None
        return [
            {"kind": kind, "model": model}
            | ({"used": to_usd(used), "value": to_usd(value)} if "usd" in kind else {"used": used, "value": value})
            for kind, model, used, value in quota
        ]

    def _moment(self, ahead_s: float) -> str | None:
        """A moment that lies so far ahead, or behind."""
        return to_rfc3339(self._now_us() + int(ahead_s * 1_000_000))


def description(configured: Configured) -> dict[str, Any]:
    """What the configuration says of an upstream: nothing of it is secret."""
    return {
        "name": configured.name,
        "base_url": configured.base_url,
        "priority": configured.priority,
        "weight": configured.weight,
        "models": list(configured.models),
        "projects": list(configured.projects),
    }


def _state(disabled: bool, out: Sequence[str]) -> str:
    """`out` are the models that it is out for."""
    if disabled:
        return "disabled"
    return "out" if ALL_MODELS in out else "partly_out" if out else "ready"


def _what(what: str, body: bytes, secret: bytes) -> str:
    """An error with the message of Google's in its body, if there is one."""
    try:
        parsed = json.loads(edits.redact(body, secret))
        message = (parsed[0] if isinstance(parsed, list) else parsed)["error"]["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return _shown(what)
    return _shown(f"{what}: {message}")


def _shown(text: str) -> str:
    """In one line, shortened, without secrets and without what a terminal would obey."""
    line = redact(" ".join("".join(each if each.isprintable() else " " for each in text[: 4 * LONGEST]).split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 2]} …"
