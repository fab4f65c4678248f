"""What makes spans: trace context that comes and goes, secrets that stay, variables of the SDK's own, a bounded end."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import get_current_span
from pydantic import SecretStr
from structlog.testing import capture_logs

from proxy.config.load import ConfigError
from proxy.config.tracing import Tracing as Settings
from proxy.gemini.headers import Headers
from proxy.telemetry.tracing import LONGEST_TEXT, Tracing, carried, continued, put
from tests.telemetry.otlp_receiver import receiving

pytestmark = pytest.mark.anyio

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
GOOGLE = "AIzaSyA1234567890abcdefghijklmnopqrstuv"


@pytest.mark.parametrize(
    ("headers", "trace", "state"),
    [
        ([PARENT], TRACE, {}),
        ([PARENT, (b"tracestate", b"a=1,b=2")], TRACE, {"a": "1", "b": "2"}),
        ([PARENT, (b"tracestate", b"a=1"), (b"tracestate", b"b=2")], TRACE, {"a": "1", "b": "2"}),
        ([PARENT, (b"tracestate", f"a={GOOGLE}".encode())], TRACE, {}),
        ([PARENT, (b"tracestate", b"\xff=\xfe;,,=")], TRACE, {}),
        ([PARENT, (b"tracestate", b",".join(b"k%d=%b" % (at, b"v" * 100) for at in range(6)))], TRACE, {}),
        ([PARENT, PARENT], "", {}),
        ([(b"tracestate", b"a=1")], "", {}),
        ([(b"traceparent", b"00-" + b"g" * 32 + b"-" + SPAN.encode() + b"-01")], "", {}),
        ([(b"traceparent", b"")], "", {}),
        ([], "", {}),
    ],
)
async def test_a_callers_context_is_taken_where_it_is_one(headers: Headers, trace: str, state: dict[str, str]) -> None:
    """W3C Trace Context, sections 3.2 and 4.3. What has the shape of a secret in its state isn't taken along."""
    found = get_current_span(continued(headers)).get_span_context()
    assert (f"{found.trace_id:032x}" if found.is_valid else "") == trace
    assert dict(found.trace_state) == state


@pytest.mark.parametrize(
    "headers",
    [
        [(b"traceparent", b"0" * 8000)],
        [PARENT, (b"tracestate", b"what the caller wants to be read")],
        [PARENT, (b"tracestate", b",".join(b"k%d=v" % at for at in range(33)))],
    ],
)
async def test_a_context_that_is_none_writes_no_line(headers: Headers, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reaches the door could fill the log with warnings, also without a key, and in words of his own."""
    continued(headers)
    assert caplog.messages == []


async def test_the_context_that_goes_on_is_the_spans_in_place_of_the_callers() -> None:
    came: Headers = [(b"x-a", b"1"), PARENT, (b"tracestate", b"a=1"), (b"baggage", b"b=2")]
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("one", continued(came))
    context = span.get_span_context()
    assert carried(came, span) == [
        (b"x-a", b"1"),
        (b"baggage", b"b=2"),
        (b"traceparent", f"00-{TRACE}-{context.span_id:016x}-01".encode()),
        (b"tracestate", b"a=1"),
    ]
    assert context.span_id != int(SPAN, 16)


async def test_a_caller_keeps_its_context_where_the_sdk_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By OTEL_SDK_DISABLED: a context of zeros would be none."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("one")
    assert carried([PARENT], span) == [PARENT]


async def test_texts_lose_secrets_and_what_is_too_long() -> None:
    limits = SpanLimits(max_span_attribute_length=LONGEST_TEXT)
    span: Any = TracerProvider(shutdown_on_exit=False, span_limits=limits).get_tracer("test").start_span("one")
    put(span, {"a": f"key {GOOGLE}", "b": ("x", GOOGLE), "c": None, "d": 1, "e": "y" * 1000})
    assert dict(span.attributes) == {
        "a": "key [redacted]",
        "b": ("x", "[redacted]"),
        "d": 1,
        "e": "y" * LONGEST_TEXT,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000"),
    ],
)
async def test_a_variable_of_the_sdks_own_that_is_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="tracing: a variable OTEL_"):
        Tracing(Settings(otlp_endpoint="http://127.0.0.1:9"), "1", "one")


async def test_the_end_waits_for_a_collector_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing: what waited is lost, and that is told."""
    monkeypatch.setattr("proxy.telemetry.tracing.FLUSH_S", 0.2)
    with receiving() as collector, capture_logs() as told:
        collector.lets_go.clear()
        tracing = Tracing(Settings(otlp_endpoint=collector.base_url, headers=SecretStr("a=b")), "1", "one")
        tracing.tracer.start_span("one").end()
        await tracing.close()
        assert [(line["event"], "the process ends" in line["what"]) for line in told] == [("traces_lost", True)]
        collector.lets_go.set()
