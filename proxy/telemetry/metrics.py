"""What counts into the metrics that declared.py declares, under labels that labels.py bounds."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

from proxy.gemini.surface import OPERATIONS
from proxy.telemetry.declared import Declared
from proxy.telemetry.labels import MOST, OTHER, Children, Labels, Names, status_of
from proxy.telemetry.multiprocess import AddedUp, ProcessFiles

__all__ = ["CONTENT_TYPE", "Metrics"]

MAX_PROJECTS = 1000
MAX_UPSTREAMS = 1000
"""Names of upstreams that a process may come to know, by one reload after the other."""
MAX_OPERATIONS = 100
NANO = 1_000_000_000
ATTEMPT_OUTCOMES = (
    "answered",
    "rate_limited",
    "overloaded",
    "credential_refused",
    "unreachable",
    "broke_off",
    "timeout",
)


class Metrics(Declared):
    """The metrics of one process. Models outside `models` read `other`; so do projects past the first thousand."""

    def __init__(
        self,
        version: str,
        models: Collection[str],
        workers: Path | None = None,
        files: ProcessFiles | None = None,
        most: int = MOST,
    ) -> None:
        """`workers`: the folder where workers write theirs, which are told with these. `files`: this process's own in
        it, of which a predecessor's series are gone on from. `most`: see Children."""
        super().__init__()
        self._workers = workers
        self._files = files
        self.know_models(models)
        self.project = Names(MAX_PROJECTS)
        """The label of a project."""
        self._upstream = Names(MAX_UPSTREAMS)
        self._upstreams: frozenset[str] = frozenset()
        self._budgets: frozenset[Labels] = frozenset()
        self._limits: frozenset[Labels] = frozenset()
        self._looks: list[Callable[[], object]] = []
        self._bound(most)
        self._begin(version)
        self._go_on_from(files.known if files else ())

    def _bound(self, most: int) -> None:
        few = min(most, MAX_OPERATIONS)
        self._durations = Children(self.request_duration, few)
        self._first_bytes, self._overheads = Children(self.first_byte, few), Children(self.overhead, few)
        self._missing = Children(self.missing, few)
        self._requests, self._refusals = Children(self.requests, most), Children(self.refusals, most)
        self._tokens, self._images = Children(self.tokens, most), Children(self.images, most)
        self._costs, self._unpriced = Children(self.cost, most), Children(self.unpriced, most)
        self._shadow_refusals = Children(self.shadow_refusals, most)
        self._upstream_requests = Children(self.upstream_requests, most)
        self._attempts = Children(self.attempts, most)

    def _begin(self, version: str) -> None:
        """What can be there from the start is: of a counter that appears with 1, `increase` never shows the first."""
        self.build_info.labels(version).set(1)
        for outcome in ("applied", "rejected"):
            self.config_reloads.labels(outcome)
        for outcome in ATTEMPT_OUTCOMES:
            self._attempts[outcome,]
        for operation in OPERATIONS:
            if operation.metered:
                self._missing[operation.name,]
        self._unpriced[OTHER,]

    def _go_on_from(self, written: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        bounded = {one.metric._name: one for one in vars(self).values() if isinstance(one, Children)}
        for name, labels in written:
            if (children := bounded.get(name)) is not None:
                self.project(labels.get("project", ""))
                self._upstream(labels.get("upstream", ""))
                children[tuple(labels[label] for label in children.metric._labelnames)]

    def know_models(self, models: Collection[str]) -> None:
        """These are named from now on: the price book has changed."""
        self._models = frozenset(models)

    def model(self, name: str) -> str:
        """The label of a model."""
        return name if name in self._models or not name else OTHER

    def finished(self, project: str, operation: str, model: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests[self.project(project), operation, self.model(model), status_of(status)].inc()
        self._durations[operation,].observe(seconds)

    def refused(self, project: str, reason: str) -> None:
        """One request was refused by us; `reason` is one of errors.Reason's words."""
        self._refusals[self.project(project), reason].inc()

    def answered(self, operation: str, seconds: float) -> None:
        """The first byte of the response that goes down came, so long after the client's request."""
        self._first_bytes[operation,].observe(seconds)

    def held_up(self, operation: str, seconds: float) -> None:
        """A call that was answered waited for nobody but us for so long."""
        self._overheads[operation,].observe(seconds)

    def attempted(self, upstream: str, status: int, outcome: str) -> None:
        """A call was sent to an upstream, and answered so; 0: not at all. `outcome` is as in the usage record's
        `attempts`."""
        self._upstream_requests[self._upstream(upstream), status_of(status) if status else "failed"].inc()
        self._attempts[outcome,].inc()

    def upstream_changed(self, upstream: str, available: bool) -> None:
        """Whether an upstream may be asked for anything at all. Nothing is told of one that isn't known."""
        if upstream in self._upstreams:
            self.upstream_available.labels(upstream).set(available)

    def know_upstreams(self, available: Mapping[str, bool]) -> None:
        """These are the ones of the configuration from now on, and whether each may be asked."""
        for gone in self._upstreams - available.keys():
            self.upstream_available.remove(gone)
            self.upstream_models_out.remove(gone)
        self._upstreams = frozenset(name for name in available if self._upstream(name) == name)
        for upstream in self._upstreams:
            self.upstream_changed(upstream, available[upstream])
            self.upstream_models_out.labels(upstream)

    def models_out(self, models: Mapping[str, int]) -> None:
        """For how many models each upstream is out; those that aren't there are out for none."""
        for upstream in self._upstreams:
            self.upstream_models_out.labels(upstream).set(models.get(upstream, 0))

    def weighed(self, project: str, model: str, quantities: dict[str, int], images: int, cost: int | None) -> None:
        """One call was written down: its quantities (`input_text`, `output_image` …), pictures and nano-dollars."""
        key = project, model = self.project(project), self.model(model)
        for name, quantity in quantities.items():
            if quantity and "_" in name:  # `search` is a quantity too, and no token
                direction, _, modality = name.partition("_")
                self._tokens[project, model, direction, modality].inc(quantity)
        pictures, spent = self._images[key], self._costs[key]  # there from the first call on, if at 0
        if images:
            pictures.inc(images)
        if cost:
            spent.inc(cost / NANO)
        if cost is None:
            self._unpriced[model,].inc()

    def usage_missed(self, operation: str) -> None:
        """A response should have brought usage, and brought none."""
        self._missing[operation,].inc()

    def shadow_refused(self, project: str, kind: str) -> None:
        """A shadow limit ("rpm" …) would have refused a call."""
        self._shadow_refusals[self.project(project), kind].inc()

    def unshipped(self, records: int, oldest_s: float) -> None:
        """How many records wait to be shipped, and the age of the oldest."""
        self.unshipped_records.set(records)
        self.ledger_lag.set(oldest_s)

    def budgets_used(self, ratios: Mapping[str, float]) -> None:
        """Of each project that has a budget, how much of it is used: 1 is all. Of others nothing is told any more."""
        self._budgets = self._tell(self.budget_used, self._budgets, {(one,): ratio for one, ratio in ratios.items()})

    def limits_used(self, ratios: Mapping[tuple[str, str], float]) -> None:
        """The same of limits, by project and kind ("rpm" …)."""
        self._limits = self._tell(self.limit_used, self._limits, ratios)

    def _tell(self, gauge: Gauge, told: frozenset[Labels], ratios: Mapping[Any, float]) -> frozenset[Labels]:
        """Sets a gauge by project and maybe more, and removes what was told and isn't any more. Returns what is."""
        now: dict[Labels, float] = {}
        for (project, *more), ratio in ratios.items():
            key = self.project(project), *more
            now[key] = max(ratio, now.get(key, 0.0))
        for key in told - now.keys():
            gauge.remove(*key)
        for key, ratio in now.items():
            gauge.labels(*key).set(ratio)
        return frozenset(now)

    def watch_disk(self, folder: Path) -> None:
        """Tells of the file system that a folder lies on; it is asked at each scrape."""
        self.data_free.set_function(lambda: _bytes(folder, lambda disk: disk.f_bavail))
        self.data_size.set_function(lambda: _bytes(folder, lambda disk: disk.f_blocks))

    def look_before(self, look: Callable[[], object]) -> None:
        """Has something looked at before metrics are told, in whatever thread that is done in."""
        self._looks.append(look)

    def look(self) -> None:
        """Looks at all that is known only when it is asked."""
        for look in self._looks:
            look()

    def exposition(self) -> bytes:
        """All of it as Prometheus reads it. A thousand series take 25 ms: not on a loop that serves calls."""
        self.look()
        if self._workers is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        together.register(AddedUp(self._workers, self.registry, self.project, self._files))
        return generate_latest(together)


def _bytes(folder: Path, blocks: Callable[[os.statvfs_result], int]) -> float:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return math.nan
    return float(blocks(disk) * disk.f_frsize)
