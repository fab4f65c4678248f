"""Every refusal leaves a metric and a log line, whether or not the request came as far as the relay."""

from __future__ import annotations

import structlog

from proxy.errors import Refusal
from proxy.telemetry.metrics import Metrics

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


def tell_refusal(
    metrics: Metrics, refusal: Refusal, request_id: str, project: str = "", operation: str = "unknown", model: str = ""
) -> None:
    """Counts and logs a request that we answered ourselves."""
    metrics.refused(project, refusal.reason.word)
    log.info(
        "refused",
        reason=refusal.reason.word,
        why=refusal.message,
        request_id=request_id,
        project=project,
        operation=operation,
        model=model,
    )
