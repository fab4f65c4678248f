"""One request's spans: one for itself, and one for each attempt that it came to. Imported only where there are traces.

Nothing of a path, a query, a header or a body is in a span: names, numbers and words of ours are,
and what the usage record has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from proxy.billing.records import UsageRecord, to_usd
from proxy.errors import Outcome, Refusal, UpstreamFailed
from proxy.gateway.client import Client
from proxy.gateway.images import catalogue, front
from proxy.gateway.intake import ClientGone
from proxy.gemini import surface
from proxy.gemini.calls import Call
from proxy.telemetry import genai_names as names
from proxy.telemetry.tracing import Tracing, continued, put
from proxy.upstreams.attempts import Answer, Scales, outcome_of
from proxy.upstreams.upstream import Upstream

if TYPE_CHECKING:
    from starlette.types import Scope

_ROUTES = {operation.name: f"/{{version}}/{operation.path}" for operation in surface.OPERATIONS} | {
    **{operation.name: f"/v1/{operation.path}" for operation in (front.GENERATIONS, front.EDITS)},
    catalogue.OPERATION: catalogue.PATH,
    "weighbridge.usage": "/weighbridge/v1/usage",
    "weighbridge.limits": "/weighbridge/v1/limits",
    "weighbridge.calls": "/weighbridge/v1/calls/{request_id}",
}
_FAILED = (Outcome.TRUNCATED, Outcome.UPSTREAM_ERROR, Outcome.UNSETTLED)


class Trace:
    """One request's spans."""

    __slots__ = ("_answered", "_method", "_span", "_tracing")

    def __init__(self, tracing: Tracing, scope: Scope) -> None:
        method = scope["method"]
        self._tracing = tracing
        self._method = method if method in names.METHODS else names.OTHER_METHOD
        self._answered: list[tuple[Span, str]] = []
        """Attempts whose answer is a call's, each with the id of the record that it will leave."""
        self._span = tracing.tracer.start_span(
            "HTTP" if self._method == names.OTHER_METHOD else method, continued(scope["headers"]), SpanKind.SERVER
        )
        if self._span.is_recording():
            found = {
                names.METHOD: self._method,
                names.SCHEME: scope["scheme"],
                names.PROTOCOL_VERSION: scope["http_version"],
            }
            put(self._span, found)

    def attempt(self, upstream: Upstream, call: Call, scales: Scales) -> Span:
        """A span for what is about to go up."""
        operation = names.OPERATIONS.get(call.operation.name, call.operation.name)
        span = self._tracing.tracer.start_span(
            f"{operation} {call.model}" if call.model else operation,
            set_span_in_context(self._span),
            SpanKind.CLIENT,
        )
        if span.is_recording():
            facts = scales.facts
            found: dict[str, Any] = {
                names.OPERATION: operation,
                names.PROVIDER: names.GEMINI,
                names.REQUEST_MODEL: call.model or None,
                names.REQUEST_STREAM: True if call.framing != "single" else None,
                names.SERVER_ADDRESS: upstream.hostname,
                names.SERVER_PORT: upstream.port,
                names.UPSTREAM: upstream.name,
                names.RECORD_ID: scales.record_id or None,
            }
            if facts is not None:
                found[names.REQUEST_MAX_TOKENS] = facts.max_output_tokens
                found[names.REQUEST_CHOICES] = facts.candidates if facts.candidates != 1 else None
                found[names.OUTPUT_TYPE] = "image" if facts.asks_images else None
            put(span, found)
        return span

    def failed(self, span: Span, error: BaseException) -> None:
        """An attempt without an answer."""
        if isinstance(error, UpstreamFailed):
            outcome = outcome_of(error)
            put(span, {names.ATTEMPT: outcome, names.ERROR_TYPE: outcome})
            span.set_status(StatusCode.ERROR)
        elif isinstance(error, ClientGone):
            put(span, {names.OUTCOME: Outcome.CLIENT_GONE.value})
        else:
            put(span, {names.ERROR_TYPE: error.reason.word if isinstance(error, Refusal) else type(error).__name__})
            span.set_status(StatusCode.ERROR)
        span.end()

    def answered(self, span: Span, answer: Answer, first_byte_s: float, call: Call, record_id: str) -> None:
        """An attempt has an answer: an error, all of which has come; or a response's head."""
        status = answer.error.status if answer.error is not None else answer.response.status
        put(span, {names.STATUS: status, names.ATTEMPT: str(answer.why or "answered")})
        if answer.error is not None:
            put(span, {names.ERROR_TYPE: str(status)})
            span.set_status(StatusCode.ERROR)
            span.end()
            return
        if call.framing != "single":
            put(span, {names.FIRST_CHUNK: first_byte_s})
        self._answered.append((span, record_id))

    def tell(self, client: Client) -> None:
        """The request has ended: what is known of it now."""
        span, refusal, records = self._span, client.refusal, client.records
        broken_off = refusal is not None and client.status < 400  # else that is what it was answered
        by_id = {record.record_id: record for record in records}
        for attempt, record_id in self._answered:
            _end(attempt, by_id.get(record_id), refusal if broken_off else None)
        self._answered.clear()
        if not span.is_recording():
            return
        route = _ROUTES.get(client.operation)
        if route:
            span.update_name(f"{self._method} {route}")
        put(
            span,
            {
                names.ROUTE: route,
                names.STATUS: client.status or None,
                names.REQUEST_ID: client.request_id,
                names.PROJECT: client.project or None,
                names.KEY: client.key_name or None,
                names.OUR_OPERATION: client.operation,
                names.REQUEST_MODEL: client.model or None,
                names.OUTCOME: client.outcome,
                names.REFUSED: refusal.reason.word if refusal is not None and not broken_off else None,
                names.ERROR_TYPE: _error_type(client),
                **_sums(records),
            },
        )
        if broken_off or client.status >= 500:
            span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        """Nothing more will be known."""
        for attempt, _ in self._answered:
            attempt.end()
        self._span.end()


def _end(span: Span, record: UsageRecord | None, broken_off: Refusal | None) -> None:
    """Ends an attempt's span as its call has ended, when its record was written."""
    if record is None:
        if broken_off is not None:
            put(span, {names.ERROR_TYPE: broken_off.reason.word})
            span.set_status(StatusCode.ERROR)
        span.end()
        return
    put(span, _of_record(record))
    if record.outcome in _FAILED:
        put(span, {names.ERROR_TYPE: broken_off.reason.word if broken_off is not None else str(record.outcome)})
        span.set_status(StatusCode.ERROR)
    span.end(max((record.finished_at or 0) * 1000, record.started_at * 1000))


def _of_record(record: UsageRecord) -> dict[str, Any]:
    prompt, total = record.prompt_token_count, record.total_token_count
    asked = None if prompt is None else prompt + (record.tool_use_prompt_token_count or 0)
    answered = record.candidates_token_count
    if asked is not None and total is not None:
        answered = max(total - asked, answered or 0)
    found: dict[str, Any] = {
        names.RESPONSE_MODEL: record.model_version,
        names.RESPONSE_ID: record.response_id,
        names.INPUT_TOKENS: asked,
        names.OUTPUT_TOKENS: answered,
        names.REASONING_TOKENS: record.thoughts_token_count,
        names.CACHED_TOKENS: record.cached_content_token_count,
        names.OUTCOME: str(record.outcome),
        names.COST: None if record.cost_usd is None else to_usd(record.cost_usd),
        names.ESTIMATED: record.estimated or None,
        names.IMAGES: record.images or None,
    }
    if record.finish_reason is not None:
        found[names.FINISH_REASONS] = (record.finish_reason,)
    for named, details in (
        (names.INPUT_TOKENS_OF, record.prompt_tokens_details),
        (names.OUTPUT_TOKENS_OF, record.candidates_tokens_details),
    ):
        found |= {named[modality]: tokens for modality, tokens in (details or {}).items() if modality in named}
    return found


def _error_type(client: Client) -> str | None:
    if client.refusal is not None:
        return client.refusal.reason.word
    return str(client.status) if client.status >= 400 else None


def _sums(records: list[UsageRecord]) -> dict[str, Any]:
    costs = [record.cost_usd for record in records]
    return {
        names.CALLS: len(records) or None,
        names.COST: to_usd(sum(cost or 0 for cost in costs)) if costs and None not in costs else None,
        names.ESTIMATED: any(record.estimated for record in records) or None,
        names.IMAGES: sum(record.images for record in records) or None,
    }
