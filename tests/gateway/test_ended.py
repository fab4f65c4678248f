"""Whoever answers a request, and however it ends, it is told of once, with what is known of it by then."""

from __future__ import annotations

from types import SimpleNamespace

import structlog
from prometheus_client.parser import text_string_to_metric_families

from proxy.gateway.access import Access
from proxy.gateway.client import Client
from proxy.gateway.ended import Ended
from proxy.gemini import calls
from proxy.telemetry.metrics import Metrics


async def nobody(message: object) -> None:
    pass


def test_a_request_is_counted_by_what_it_asked_and_how_long_it_took() -> None:
    metrics, clock = Metrics("1", ["gemini-3.8-flash"]), iter([12.5])
    ended = Ended(metrics, Access(), lambda: next(clock))
    one = Client(
        {"extensions": {"weighbridge": SimpleNamespace(request_id="id-1", gone=False, told_of=False)}},
        nobody,
        began=10.0,
    )
    one.asks(calls.parse("POST", b"/v1beta/models/gemini-3.8-flash:generateContent", b""))
    one.project, one.status = "alice", 200
    with structlog.testing.capture_logs() as said:
        ended(one)
    assert [(line["event"], line["project"], line["ms"]) for line in said] == [("call", "alice", 2500)]
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    counted = families["weighbridge_requests"].samples[0]
    assert counted.labels == {
        "project": "alice",
        "operation": "generateContent",
        "model": "gemini-3.8-flash",
        "status": "200",
    }
    took = {sample.name: sample.value for sample in families["weighbridge_request_duration_seconds"].samples}
    assert took["weighbridge_request_duration_seconds_sum"] == 2.5
