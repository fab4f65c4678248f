"""Every refusal is counted, whether or not the request came as far as the relay; the access line tells of it."""

from __future__ import annotations

from proxy.errors import Refusal
from proxy.telemetry.metrics import Metrics


def count_refusal(metrics: Metrics, refusal: Refusal, project: str = "") -> None:
    """A request was answered by ourselves: for what, and whose it was."""
    metrics.refusals.labels(metrics.project(project), refusal.reason.word).inc()
