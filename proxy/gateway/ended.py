"""What is told of each request when it has ended, whoever answered it: one place for metrics and the log."""

from __future__ import annotations

from collections.abc import Callable

from proxy.gateway.access import Access
from proxy.gateway.client import Client
from proxy.telemetry.metrics import Metrics


class Ended:
    """Tells what became of a request. One for all requests under a configuration."""

    def __init__(self, metrics: Metrics, access: Access, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._access = access
        self._monotonic = monotonic

    def __call__(self, client: Client) -> None:
        seconds = self._monotonic() - client.began
        self._metrics.finished(client.project, client.operation, client.model, client.status, seconds)
        self._access.tell(client, seconds)
