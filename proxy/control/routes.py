"""The control door's paths: health and metrics."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from proxy.telemetry.metrics import CONTENT_TYPE, Metrics


def control_app(*, metrics: Metrics, ready: Callable[[], bool]) -> Starlette:
    """The ASGI app behind the control door. All that is here is open: it tells no tenant's data but sums."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", status_code=503)

    async def exposition(_: Request) -> Response:
        # A scrape of a thousand series takes 25 ms: not on the loop that serves calls.
        return Response(await run_in_threadpool(metrics.exposition), headers={"content-type": CONTENT_TYPE})

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", exposition)],
    )
