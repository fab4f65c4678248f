"""The control door's paths: health and metrics, which are open, and the admin API, which is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from proxy.telemetry.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def control_app(*, metrics: Metrics, ready: Callable[[], bool], admin: ASGIApp) -> Starlette:
    """The ASGI app behind the control door. What is open tells no tenant's data but sums; `admin` asks who is there."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", status_code=503)

    # A scrape of a thousand series takes 25 ms: not on the loop that serves calls. And however many scrape, calls have
    # to share the processor with one of them.
    one_at_a_time = asyncio.Lock()

    async def exposition(_: Request) -> Response:
        async with one_at_a_time:
            told = await run_in_threadpool(metrics.exposition)
        return Response(told, headers={"content-type": CONTENT_TYPE})

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
            Mount("/admin", app=admin),
        ],
    )
    app.router.redirect_slashes = False
    return app
