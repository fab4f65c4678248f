"""Traces: what makes spans under one configuration, and W3C trace context. Imported only where they are switched on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.config.load import ConfigError
from proxy.config.tracing import TRACES, parse_headers
from proxy.config.tracing import Tracing as Settings
from proxy.gemini.headers import Headers
from proxy.telemetry import genai_names as names
from proxy.telemetry.redaction import redact
from proxy.telemetry.span_outlet import Batches, SpanOutlet, open_exporter

LONGEST_STATE = 512
"""Characters of a caller's tracestate; a longer one isn't taken. Section 3.3.1.5 asks for as many."""
LONGEST_TEXT = 256
"""Characters of an attribute: some are texts that callers or upstreams chose."""
FLUSH_S = 3.0
"""How long the end of a process waits for what isn't sent yet."""

Attributes = Mapping[str, Any]
"""By name; what is None isn't known, and isn't set."""

_CONTEXT = (b"traceparent", b"tracestate")
_propagator = TraceContextTextMapPropagator()
for _module in ("opentelemetry.trace.propagation.tracecontext", "opentelemetry.trace.span"):
    logging.getLogger(_module).setLevel(logging.ERROR)  # they warn of each caller's header that isn't as it should be


class Tracing:
    """Makes spans under one configuration, and sends them."""

    def __init__(self, settings: Settings, version: str, instance: str) -> None:
        """`instance` tells this process from all others. Starts a thread. Raises ConfigError."""
        headers = parse_headers(settings.headers.get_secret_value()) if settings.headers else {}
        try:
            self._outlet = SpanOutlet(open_exporter(settings.otlp_endpoint + TRACES, headers))
            self._provider = TracerProvider(
                sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
                resource=Resource.create(
                    {
                        names.SERVICE: "weighbridge",
                        names.SERVICE_VERSION: version,
                        names.SERVICE_INSTANCE: instance,
                    }
                ),
                shutdown_on_exit=False,
                span_limits=SpanLimits(max_span_attribute_length=LONGEST_TEXT),
            )
            self._provider.add_span_processor(Batches(self._outlet))
        except (ValueError, OSError) as error:  # the SDK reads variables of its own
            raise ConfigError([f"tracing: a variable OTEL_… can't be used: {error}"]) from None
        self.tracer = self._provider.get_tracer("weighbridge", version, schema_url=names.SCHEMA)

    async def close(self) -> None:
        """Sends what waits, for a few seconds at most."""
        sent = threading.Event()

        def end() -> None:
            self._provider.shutdown()
            sent.set()

        threading.Thread(target=end, name="traces-end", daemon=True).start()
        if not await asyncio.to_thread(sent.wait, FLUSH_S):
            self._outlet.give_up(FLUSH_S)


def put(span: Span, attributes: Attributes) -> None:
    """Sets what is known. Whatever has the shape of a secret is taken out of texts, wherever they come from."""
    span.set_attributes({name: _shown(value) for name, value in attributes.items() if value is not None})


def _shown(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(redact, value))
    return redact(value) if isinstance(value, str) else value


def continued(headers: Headers) -> Context:
    """The trace that a request is part of by its headers (W3C Trace Context); an empty context where it is of none."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:  # section 4.3: several are none
        return Context()
    state = ",".join([value.decode("latin-1") for name, value in headers if name == b"tracestate"])
    if len(state) > LONGEST_STATE or redact(state) != state:
        state = ""
    return _propagator.extract({"traceparent": parents[0].decode("latin-1"), "tracestate": state}, Context())


def carried(headers: Headers, span: Span) -> Headers:
    """Headers with this span for the parent of whatever comes of them."""
    context = span.get_span_context()
    if not context.is_valid:
        return headers
    kept = [field for field in headers if field[0] not in _CONTEXT]
    kept.append((b"traceparent", b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)))
    if context.trace_state:
        kept.append((b"tracestate", context.trace_state.to_header().encode()))
    return kept
