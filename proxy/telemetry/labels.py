"""Label values, bounded: whatever callers, upstreams or reloads name, a metric gets no more than so many series."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

OTHER = "other"
MOST = 20_000
"""Series of one metric. A thousand projects with twenty each have room; a scrape of so many takes half a second."""
LASTING = frozenset(("project", "status", "direction", "modality", "upstream", "reason", "limit", "outcome"))
"""Labels that stay what they are where a metric has that many already. The others, of which there may be more than
anybody looks at, read `other` then: so sums by project, as of money, stay right."""

Metric = TypeVar("Metric", Counter, Gauge, Histogram)
Labels = tuple[str, ...]

_STATUSES = {int(status): str(int(status)) for status in HTTPStatus} | {0: "0", 529: "529"}


class Names:
    """The first so many different names that come; all others are `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= self._most or name == OTHER:
                return OTHER
            self._known.add(name)
        return name


class Children(dict[Labels, Metric]):
    """The series of one metric by their labels' values: each is made once, since `labels()` costs more than counting.

    From the `most`th on, those that are new share one by LASTING; from twice that on, all of them share one.
    """

    def __init__(self, metric: Metric, most: int = MOST) -> None:
        super().__init__()
        self.metric: Metric = metric
        self._most = most
        self._told_full = False

    def __missing__(self, key: Labels) -> Metric:
        if len(self) < self._most:
            return self._make(key)
        if not self._told_full:
            self._told_full = True
            log.warning("metric_full", metric=self.metric._name, series=self._most, what="others share the label other")
        kept = tuple(
            value if name in LASTING else OTHER for name, value in zip(self.metric._labelnames, key, strict=True)
        )
        if (found := self.get(kept)) is not None:
            return found
        if len(self) < 2 * self._most:
            return self._make(kept)
        others = (OTHER,) * len(key)
        return self.get(others) or self._make(others)

    def _make(self, key: Labels) -> Metric:
        child: Metric = self.metric.labels(*key)
        self[key] = child
        return child


@lru_cache(1000)
def status_of(number: int) -> str:
    """An HTTP status as a label: itself where it has a meaning, else "2xx" … "5xx", or `other`."""
    known = _STATUSES.get(number)
    if known is not None:
        return known
    return f"{number // 100}xx" if 200 <= number < 600 else OTHER
