"""What the log says of calls without a price: a line for each model, at most once an hour."""

from __future__ import annotations

import structlog

from proxy.billing.records import UsageRecord

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

HOUR_US = 3_600_000_000
MOST_MODELS = 100
"""Told of in one hour. The metric and the report count the calls of all."""


class Unpriced:
    """Tells of models without a price. Used on one event loop."""

    def __init__(self) -> None:
        self._hour = 0
        self._told: set[str] = set()

    def tell(self, record: UsageRecord) -> None:
        """A call was written down without a cost: that is told, unless it was told of its model in this hour."""
        hour = record.started_at // HOUR_US
        if hour > self._hour:
            self._hour = hour
            self._told.clear()
        if record.model in self._told or len(self._told) >= MOST_MODELS:
            return
        self._told.add(record.model)
        log.warning(
            "model_unpriced",
            model=record.model,
            model_version=record.model_version,
            request_id=record.request_id,
            lacking=", ".join(name for name, (_, rate) in (record.rates or {}).items() if rate is None),
            what="its calls are on the bill without a cost: give it a price with [[prices]] or `prices update`,"
            " then `ledger rerate` prices them",
        )
