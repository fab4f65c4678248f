"""Every metric, declared here; label values bounded here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

from proxy.telemetry.multiprocess import AddedUp

__all__ = ["CONTENT_TYPE", "Metrics"]

MAX_PROJECTS = 1000
SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 300)
"""Buckets to 300 s: a 4K picture takes minutes."""
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
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


disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter brings a second series, its birth


class Metrics:
    """The metrics of one process. Models outside `models` read `other`; so do projects past the first thousand."""

    def __init__(self, version: str, models: Collection[str], workers: Path | None = None) -> None:
        """`workers`: the folder where workers write theirs, which are told with these."""
        self.registry = CollectorRegistry()
        self._workers = workers
        self.know_models(models)
        self._projects: set[str] = set()
        self._finished: dict[tuple[str, str, str, int], tuple[Counter, Histogram]] = {}
        self._answered: dict[str, Histogram] = {}
        self._attempted: dict[tuple[str, str, str], tuple[Counter, Counter]] = {}
        self._tokens: dict[tuple[str, str, str], Counter] = {}
        self._spent: dict[tuple[str, str], tuple[Counter, Counter]] = {}

        self.requests = self._counter("requests", "Requests answered.", "project", "operation", "model", "status")
        self.refusals = self._counter("refusals", "Requests that Weighbridge itself refused.", "project", "reason")
        self.shadow_refusals = self._counter(
            "shadow_refusals", "Requests that a shadow limit would have refused.", "project", "limit"
        )
        self.limiter_errors = Counter(
            "weighbridge_limiter_errors", "Times that Redis didn't do what was asked of it.", registry=self.registry
        )
        self.request_duration = self._histogram(
            "request_duration_seconds", "From the request's head to the response's last byte.", "operation"
        )
        self.first_byte = self._histogram(
            "first_byte_seconds", "From the request's head to the first byte of the upstream's response.", "operation"
        )
        self.in_flight = Gauge(
            "weighbridge_in_flight_requests",
            "Requests being served now.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        """Read when scraped: the app sets its function."""
        self.tokens = self._counter(
            "tokens", "Tokens that upstreams reported.", "project", "model", "direction", "modality"
        )
        self.images = self._counter("images", "Pictures that came back.", "project", "model")
        self.cost = self._counter("cost_usd", "What the calls cost, in US dollars.", "project", "model")
        self._count_upstreams()
        self.unpriced = self._counter(
            "unpriced_requests", "Calls whose model has no price: they stand on the bill without a cost.", "model"
        )
        self.usage_missing = self._counter(
            "usage_missing",
            "Responses that should have brought usage and brought none; billed by estimate.",
            "operation",
        )
        self._budgets = Gauge(
            "weighbridge_budget_used_ratio", "Of a project's fullest budget.", ["project"], registry=self.registry
        )
        self._budgeted: set[str] = set()
        self.config_reloads = self._counter(
            "config_reloads", "Times that the configuration was read anew by a running server.", "outcome"
        )
        for outcome in ("applied", "rejected"):
            self.config_reloads.labels(outcome)
        self._watch_ledger()
        Gauge("weighbridge_build_info", "The version that runs.", ["version"], registry=self.registry).labels(
            version
        ).set(1)

    def _watch_ledger(self) -> None:
        self.ledger_commit = Histogram(
            "weighbridge_ledger_commit_seconds",
            "Time that one commit of the ledger file took, its fsync included.",
            buckets=COMMIT_SECONDS,
            registry=self.registry,
        )
        self._unshipped = Gauge(
            "weighbridge_unshipped_records", "Records that PostgreSQL hasn't got yet.", registry=self.registry
        )
        self._ledger_lag = Gauge(
            "weighbridge_ledger_lag_seconds",
            "Age of the oldest of these records.",
            registry=self.registry,
        )

    def _count_upstreams(self) -> None:
        self.upstream_requests = self._counter(
            "upstream_requests", "Requests sent up; status is `failed` where no answer came.", "upstream", "status"
        )
        self.attempts = self._counter("attempts", "Requests sent up, by what became of them.", "outcome")
        for outcome in ATTEMPT_OUTCOMES:
            self.attempts.labels(outcome)
        self.upstream_available = Gauge(
            "weighbridge_upstream_available",
            "1, or 0 where an upstream is disabled, or out for all models.",
            ["upstream"],
            registry=self.registry,
        )
        self._upstreams: frozenset[str] = frozenset()

    def know_models(self, models: Collection[str]) -> None:
        """These are named from now on: the price book has changed."""
        self._models = frozenset(models)

    def finished(self, project: str, operation: str, model: str, status: int, seconds: float) -> None:
        """One request was answered. The children are kept: `labels()` costs more than the counting."""
        key = (self.project(project), operation, self.model(model), status)
        children = self._finished.get(key)
        if children is None:
            children = self._finished[key] = (self.requests.labels(*key), self.request_duration.labels(operation))
        children[0].inc()
        children[1].observe(seconds)

    def answered(self, operation: str, seconds: float) -> None:
        """The first byte of the response that goes down came, so long after the client's request."""
        child = self._answered.get(operation)
        if child is None:
            child = self._answered[operation] = self.first_byte.labels(operation)
        child.observe(seconds)

    def attempted(self, upstream: str, status: str, outcome: str) -> None:
        """A call was sent to an upstream, and answered or not; `outcome` is as in the usage record's `attempts`."""
        key = upstream, status, outcome
        children = self._attempted.get(key)
        if children is None:
            labels = self.upstream_requests.labels(upstream, status), self.attempts.labels(outcome)
            children = self._attempted[key] = labels
        children[0].inc()
        children[1].inc()

    def upstream_changed(self, upstream: str, available: bool) -> None:
        """Whether an upstream may be asked for anything at all. Nothing is told of one that isn't known."""
        if upstream in self._upstreams:
            self.upstream_available.labels(upstream).set(available)

    def know_upstreams(self, available: Mapping[str, bool]) -> None:
        """These are the ones of the configuration from now on, and whether each may be asked."""
        for gone in self._upstreams - available.keys():
            self.upstream_available.remove(gone)
        self._upstreams = frozenset(available)
        for upstream, is_available in available.items():
            self.upstream_changed(upstream, is_available)

    def weighed(self, project: str, model: str, quantities: dict[str, int], images: int, cost: int | None) -> None:
        """One call was written down: its quantities (`input_text`, `output_image` …), pictures and nano-dollars."""
        key = project, model = self.project(project), self.model(model)
        for name, quantity in quantities.items():
            if quantity and "_" in name:  # `search` is a quantity too, and no token
                self._token_counter(project, model, name).inc(quantity)
        spent = self._spent.get(key)
        if spent is None:
            spent = self._spent[key] = (self.images.labels(*key), self.cost.labels(*key))
        if images:
            spent[0].inc(images)
        if cost:
            spent[1].inc(cost / NANO)
        if cost is None:
            self.unpriced.labels(model).inc()

    def unshipped(self, records: int, oldest_s: float) -> None:
        """How many records wait to be shipped, and the age of the oldest."""
        self._unshipped.set(records)
        self._ledger_lag.set(oldest_s)

    def budgets_used(self, ratios: Mapping[str, float]) -> None:
        """Of each project that has a budget, how much of it is used: 1 is all. Of others nothing is told any more."""
        told: dict[str, float] = {}
        for project, ratio in ratios.items():
            label = self.project(project)
            told[label] = max(ratio, told.get(label, 0.0))
        for label in self._budgeted - told.keys():
            self._budgets.remove(label)
        for label, ratio in told.items():
            self._budgets.labels(label).set(ratio)
        self._budgeted = set(told)

    def shadow_refused(self, project: str, kind: str) -> None:
        """A shadow limit ("rpm" …) would have refused a call."""
        self.shadow_refusals.labels(self.project(project), kind).inc()

    def _token_counter(self, project: str, model: str, name: str) -> Counter:
        key = (project, model, name)
        child = self._tokens.get(key)
        if child is None:
            direction, _, modality = name.partition("_")
            child = self._tokens[key] = self.tokens.labels(project, model, direction, modality)
        return child

    def project(self, name: str) -> str:
        if name not in self._projects:
            if len(self._projects) >= MAX_PROJECTS:
                return "other"
            self._projects.add(name)
        return name

    def model(self, name: str) -> str:
        return name if name in self._models or not name else "other"

    def exposition(self) -> bytes:
        if self._workers is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        together.register(AddedUp(self._workers, self.registry))
        return generate_latest(together)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"weighbridge_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, *labels: str) -> Histogram:
        return Histogram(f"weighbridge_{name}", help_text, labels, buckets=SECONDS, registry=self.registry)
