"""What is put around the data plane where there are traces, and only there: without them, none of it is imported."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from proxy.gateway.client import Client
from proxy.gateway.ended import Ended
from proxy.gateway.trace import Trace
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.telemetry.tracing import Tracing, carried
from proxy.upstreams.attempts import Answer, Attempts, Content, Scales
from proxy.upstreams.pool import Selection

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_UNTRACED = frozenset({"/healthz", "/readyz"})

_current: ContextVar[Trace] = ContextVar("trace")


class TracedGateway:
    """The gateway, each request within a span; but for health's, and for browsers' preflights."""

    def __init__(self, gateway: ASGIApp, tracing: Tracing) -> None:
        self._gateway = gateway
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _UNTRACED or scope["method"] == "OPTIONS":
            await self._gateway(scope, receive, send)
            return
        trace = Trace(self._tracing, scope)
        _current.set(trace)  # of this request's task, and of those that it starts
        try:
            await self._gateway(scope, receive, send)
        finally:
            trace.end()


class TracedAttempts(Attempts):
    """Each attempt within a span, which the upstream is told of."""

    async def _attempt(
        self, selection: Selection, call: Call, headers: Headers, body: Content, scales: Scales
    ) -> Answer:
        trace, began = _current.get(), self._monotonic()
        span = trace.attempt(selection.upstream, call, scales)
        try:
            answer = await super()._attempt(selection, call, carried(headers, span), body, scales)
        except BaseException as error:
            trace.failed(span, error)
            raise
        trace.answered(span, answer, self._monotonic() - began, call, scales.record_id)
        return answer


class TracedEnded(Ended):
    """What is told of a request at its end, its spans are told as well."""

    def __call__(self, client: Client) -> None:
        super().__call__(client)
        if (trace := _current.get(None)) is not None:
            trace.tell(client)
