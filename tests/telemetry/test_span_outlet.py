"""Spans that find no room, or no collector: they are counted, told once, and nothing waits for them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from proxy.telemetry.span_outlet import MOST_WAITING, Batches, SpanOutlet, open_exporter
from tests.telemetry.otlp_receiver import DEADLINE_S, receiving


class Steered(SpanExporter):
    """An exporter that does as it is told."""

    def __init__(self) -> None:
        self.result = SpanExportResult.SUCCESS
        self.goes_on = threading.Event()
        self.began = threading.Event()
        self.came = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.began.set()
        assert self.goes_on.wait(DEADLINE_S)
        self.came += len(spans)
        return self.result


def test_what_finds_no_room_is_lost_without_a_wait_and_each_is_counted() -> None:
    """While the collector takes nothing, as many as may wait do, besides those that are on their way."""
    steered = Steered()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Batches(SpanOutlet(steered)))
    tracer = provider.get_tracer("test")
    for _ in range(512):
        tracer.start_span("sent").end()
    assert steered.began.wait(DEADLINE_S), "a batch is on its way"
    for _ in range(MOST_WAITING + 100):
        tracer.start_span("waits").end()
    with capture_logs() as told:
        steered.goes_on.set()
        provider.shutdown()
    assert steered.came == 512 + MOST_WAITING
    lost = [line["spans"] for line in told if line["event"] == "traces_lost"]
    assert lost == [100]
    assert [line["lost"] for line in told if line["event"] == "traces_arrive_again"] == [100]


def test_what_is_on_its_way_when_nobody_waits_any_longer_counts_as_lost() -> None:
    """And where nothing is lost, nothing is told: a collector may be slow in ending alone."""
    steered = Steered()
    outlet = SpanOutlet(steered)
    with capture_logs() as told:
        outlet.give_up(3)
        assert all(outlet.takes() for _ in range(7))
        sending = threading.Thread(target=outlet.export, args=([ReadableSpan("one")] * 5,))
        sending.start()
        assert steered.began.wait(DEADLINE_S)
        outlet.give_up(3)
        steered.goes_on.set()
        sending.join(DEADLINE_S)
    assert [line["spans"] for line in told] == [7]


def test_a_failure_that_goes_on_is_told_once() -> None:
    steered = Steered()
    steered.goes_on.set()
    steered.result = SpanExportResult.FAILURE
    outlet = SpanOutlet(steered)
    spans = [ReadableSpan("one")]
    with capture_logs() as told:
        for _ in range(5):
            outlet.export(spans)
        steered.result = SpanExportResult.SUCCESS
        for _ in range(2):
            outlet.export(spans)
        steered.result = SpanExportResult.FAILURE
        outlet.export(spans)
    assert [(line["event"], line.get("spans", line.get("lost"))) for line in told] == [
        ("traces_lost", 1),
        ("traces_arrive_again", 5),
        ("traces_lost", 6),
    ]


@pytest.mark.parametrize(("status", "why"), [(401, "401"), (302, "302"), (500, "500")])
def test_why_a_collector_takes_nothing_is_told(status: int, why: str) -> None:
    """A redirect is no success: whoever answers it isn't the collector."""
    provider = TracerProvider(shutdown_on_exit=False)
    with receiving(status) as collector, capture_logs() as told:
        provider.add_span_processor(Batches(SpanOutlet(open_exporter(f"{collector.base_url}/v1/traces", {}))))
        provider.get_tracer("test").start_span("one").end()
        provider.shutdown()
    (line,) = told
    assert line["event"] == "traces_lost"
    assert why in line["why"]


def test_of_a_collectors_answer_no_more_is_read_than_is_of_use() -> None:
    """One that answers without an end would otherwise fill the memory of a server that serves calls."""
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1) as threads, capture_logs() as told:
        sent = threads.submit(_answer_at_length, door, 256)
        provider = TracerProvider(shutdown_on_exit=False)
        url = f"http://127.0.0.1:{door.getsockname()[1]}/v1/traces"
        provider.add_span_processor(Batches(SpanOutlet(open_exporter(url, {}))))
        provider.get_tracer("test").start_span("one").end()
        provider.shutdown()
        assert sent.result(DEADLINE_S) < 128
    assert told == []


def _answer_at_length(door: socket.socket, megabytes: int) -> int:
    """Answers one request with a long body; how many megabytes of it were taken."""
    connection, _ = door.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (megabytes << 20))
        for sent in range(megabytes):
            try:
                connection.sendall(bytes(1 << 20))
            except OSError:
                return sent
    return megabytes
