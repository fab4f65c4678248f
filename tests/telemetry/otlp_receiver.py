"""A collector: takes OTLP over HTTP as the protocol has it, decodes the protobuf, and keeps the spans that came."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Pb2Span

from tests.servers import running

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

DEADLINE_S = 30
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
"""For the environment of a server: its spans are sent after so many milliseconds."""


class Span(NamedTuple):
    """One that came. Ids are hexadecimal, `parent_id` is empty where there is none; times are Unix nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    started: int
    ended: int
    failed: bool
    attributes: dict[str, Any]
    events: int
    resource: dict[str, Any]
    scope: tuple[str, str, str]
    """Name, version, and the URL of its schema."""


@dataclass
class Receiver:
    """`answers` is the status that it answers with. While `lets_go` isn't set, it takes and answers nothing."""

    answers: int = 200
    base_url: str = ""
    spans: list[Span] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request, whatever it was answered."""
    paths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._came = threading.Condition()
        self.lets_go = threading.Event()
        self.lets_go.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content, more = bytearray(), True
        while more:
            message = await receive()
            content += message["body"]
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        with self._came:
            self.headers.append(headers)
            self.paths.append(scope["path"])
            if self.answers == 200 and self.lets_go.is_set():
                self._take(bytes(content), headers)
            self._came.notify_all()
        if not self.lets_go.is_set():
            await asyncio.to_thread(self.lets_go.wait, DEADLINE_S)
        head = [(b"content-type", b"application/x-protobuf"), (b"location", b"http://127.0.0.1:9/v1/traces")]
        await send({"type": "http.response.start", "status": self.answers, "headers": head})
        await send({"type": "http.response.body", "body": ExportTraceServiceResponse().SerializeToString()})

    def _take(self, content: bytes, headers: Mapping[str, str]) -> None:
        if headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        assert headers["content-type"] == "application/x-protobuf"
        self.raw += content
        self.spans += _decoded(ExportTraceServiceRequest.FromString(content))

    def until(self, enough: Callable[[list[Span]], Any], what: str) -> list[Span]:
        """All spans that came, once there are enough of them."""
        with self._came:
            there = self._came.wait_for(lambda: enough(self.spans), DEADLINE_S)
            assert there, f"waited in vain: {what}; there are {[span.name for span in self.spans]}"
            return list(self.spans)

    def asked(self, times: int) -> None:
        """Waits until so many requests have come, however they were answered."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.headers) >= times, DEADLINE_S)

    def request(self, request_id: str) -> tuple[Span, list[Span]]:
        """The span of one request, and those of its attempts in the order of their beginning, once it has come."""

        def server(spans: list[Span]) -> list[Span]:
            return [span for span in spans if span.attributes.get("weighbridge.request_id") == request_id]

        spans = self.until(server, f"the span of {request_id}")  # its attempts have ended before it
        (one,) = server(spans)
        assert one.kind == "SERVER"
        attempts = sorted((span for span in spans if span.parent_id == one.span_id), key=lambda span: span.started)
        assert all(each.trace_id == one.trace_id and each.kind == "CLIENT" for each in attempts)
        return one, attempts


@contextmanager
def receiving(answers: int = 200) -> Iterator[Receiver]:
    """A running collector."""
    receiver = Receiver(answers)
    with running(receiver) as receiver.base_url:
        try:
            yield receiver
        finally:
            receiver.lets_go.set()


def _decoded(message: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in message.resource_spans:
        about = _attributes(resource.resource.attributes)
        for scoped in resource.scope_spans:
            scope = scoped.scope.name, scoped.scope.version, scoped.schema_url
            for span in scoped.spans:
                yield Span(
                    span.name,
                    Pb2Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.trace_state,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == 2,  # STATUS_CODE_ERROR
                    _attributes(span.attributes),
                    len(span.events),
                    about,
                    scope,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in list[KeyValue](pairs)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, str(kind))
