"""The control door: health, readiness, and metrics that Prometheus can read."""

from __future__ import annotations

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from proxy.control.routes import control_app
from proxy.telemetry.metrics import Metrics
from tests.servers import running

NOTHING = Starlette()
"""In place of the admin API."""


def test_metrics_are_read_by_prometheus_own_parser() -> None:
    metrics = Metrics("1.2.3", ["m"])
    metrics.finished("alice", "generateContent", "m", 200, 0.2)
    with running(control_app(metrics=metrics, ready=lambda: True, admin=NOTHING)) as url:
        answer = httpx2.get(f"{url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"weighbridge_requests", "weighbridge_build_info", "weighbridge_cost_usd"} <= names


def test_healthy_does_not_mean_ready() -> None:
    ready = [False]
    with running(control_app(metrics=Metrics("1", []), ready=lambda: ready[0], admin=NOTHING)) as url:
        assert httpx2.get(f"{url}/healthz").status_code == 200
        assert httpx2.get(f"{url}/readyz").status_code == 503
        ready[0] = True
        assert httpx2.get(f"{url}/readyz").status_code == 200


def test_there_is_nothing_else() -> None:
    with running(control_app(metrics=Metrics("1", []), ready=lambda: True, admin=NOTHING)) as url:
        for path in ("/v1beta/models", "/", "/admin", "/healthz/"):
            assert httpx2.get(f"{url}{path}").status_code == 404
        assert httpx2.post(f"{url}/metrics").status_code == 405
