"""The way of spans to a collector, by OTLP over HTTP, in a thread of its own.

Whatever becomes of the collector, no call waits for it: spans that find no room are lost, and the log says so, once.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

MOST_WAITING = 2048
"""Spans that wait to be sent, as the SDK has it by default; further ones are lost. A few MB at most."""
LONGEST_ANSWER = 65_536
"""Bytes of a collector's answer that are read: the rest would only take memory."""


class SpanOutlet(SpanExporter):
    """Sends spans by another exporter, keeps count, and tells once when some are lost, and once when none are any more.

    `takes` is called on the event loop, all else in the thread that sends.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._given = 0
        self._taken = 0
        self._on_their_way = 0
        self._without_room = 0
        self._failed = 0
        self._told = 0
        self._losing = False

    def takes(self) -> bool:
        """Whether there is room for one more span; if not, it is lost."""
        if self._given - self._taken >= MOST_WAITING:
            self._without_room += 1
            return False
        self._given += 1
        return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._taken += len(spans)
        self._on_their_way = len(spans)
        _said.first = ""
        result = self._exporter.export(spans)
        self._on_their_way = 0
        if result is not SpanExportResult.SUCCESS:
            self._failed += len(spans)
        self._tell()
        return result

    def _tell(self) -> None:
        lost = self._without_room + self._failed
        if lost > self._told and not self._losing:
            self._losing = True
            what = "spans are lost, calls are not: look at the collector that tracing.otlp_endpoint names"
            log.warning("traces_lost", what=what, why=_said.first or f"over {MOST_WAITING} were waiting", spans=lost)
        elif lost == self._told and self._losing:
            self._losing = False
            log.info("traces_arrive_again", what="the collector takes spans", lost=lost)
        self._told = lost

    def give_up(self, waited_s: float) -> None:
        """The process ends, or a reload leaves this collector: what waits, or is on its way, is lost."""
        waiting = self._given - self._taken + self._on_their_way
        what = f"the collector didn't take all in {waited_s:g} s, and the process ends, or a reload has left it"
        if lost := waiting + self._without_room + self._failed:
            log.warning("traces_lost", what=what, why=_said.first, spans=lost)

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Batches(BatchSpanProcessor):
    """The SDK's, but that what finds no room is counted: the SDK would write a line for each."""

    def __init__(self, outlet: SpanOutlet) -> None:
        super().__init__(outlet, max_queue_size=MOST_WAITING)
        self._outlet = outlet

    def on_end(self, span: ReadableSpan) -> None:
        if self._outlet.takes():
            super().on_end(span)


class _Said(logging.Handler):
    """What the exporter says of a failure: its first line has the cause. All that came of it, `SpanOutlet` tells."""

    first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


_said = _Said(logging.WARNING)
_exporters = logging.getLogger(OTLPSpanExporter.__module__)
_exporters.handlers, _exporters.propagate = [_said], False


def open_exporter(url: str, headers: Mapping[str, str]) -> OTLPSpanExporter:
    """What sends to one collector. Raises ValueError or OSError where a variable OTEL_… can't be used."""
    session = requests.Session()
    session.hooks["response"].append(_bounded)
    return OTLPSpanExporter(url, headers=headers, session=session)


def _bounded(response: requests.Response, **_: object) -> None:
    """Reads the beginning of an answer. Its session would read all of it, and the exporter take a redirect for a
    success."""
    if 300 <= response.status_code < 400:
        response.close()
        raise ValueError(f"The collector answers {response.status_code}: it is to be found elsewhere.")
    came = response.raw.read(LONGEST_ANSWER + 1)
    if len(came) > LONGEST_ANSWER:
        response.raw.close()
    else:
        response.raw.release_conn()
    response.raw = io.BytesIO(came[:LONGEST_ANSWER])
