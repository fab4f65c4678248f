"""Every metric, declared: its name, its labels, its unit, what it says, and when to worry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300)
"""Buckets to 300 s, close from ten on: a picture takes 10 to 40, one of 4K minutes."""
OVERHEAD_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)

disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter brings a second series, its birth


class Declared:
    """The metrics of one process. What counts into them is metrics.py."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._declare_calls()
        self._declare_bill()
        self._declare_limits()
        self._declare_upstreams()
        self._declare_ledger()
        self._declare_process()

    def _declare_calls(self) -> None:
        self.requests = self._counter(
            "requests",
            "project operation model status",
            unit="requests",
            what="Requests answered, refusals included; status 0: the client left before there was one",
            worry="when the share of 5xx grows",
        )
        self.refusals = self._counter(
            "refusals",
            "project reason",
            unit="requests",
            what="Requests that Weighbridge itself refused",
            worry="at any LEDGER_UNAVAILABLE or UPSTREAM_CREDENTIAL_REFUSED, and when a tenth are RATE_LIMITED",
        )
        self.request_duration = self._histogram(
            "request_duration_seconds",
            "operation",
            SECONDS,
            what="From a request's head to its response's last byte",
            worry="when it grows and first_byte doesn't: then clients read slowly, or we do",
        )
        self.first_byte = self._histogram(
            "first_byte_seconds",
            "operation",
            SECONDS,
            what="From a request's head to the first byte of the upstream's response",
            worry="when it grows and overhead doesn't: then the upstream is slow",
        )
        self.overhead = self._histogram(
            "overhead_seconds",
            "operation",
            OVERHEAD_SECONDS,
            what="Time in which an answered call waited for us alone: before each attempt, and after the last byte",
            worry="when its 99th percentile is over 0.1 for minutes: the disk, Redis or the processor is slow",
        )
        self.in_flight = self._gauge(
            "in_flight_requests",
            together="livesum",
            unit="requests",
            what="Requests being served now",
            worry="when it grows and the rate of requests doesn't",
        )
        """Read when scraped: the app sets its function."""

    def _declare_bill(self) -> None:
        self.tokens = self._counter(
            "tokens",
            "project model direction modality",
            unit="tokens",
            what="Tokens that upstreams reported",
            worry="when a project's grow and nobody knows why",
        )
        self.images = self._counter(
            "images",
            "project model",
            unit="pictures",
            what="Pictures that came back",
            worry="when tokens of modality image grow and these don't",
        )
        self.cost = self._counter(
            "cost_usd",
            "project model",
            unit="US dollars",
            what="What calls cost, estimates included",
            worry="when its rate would use up a month's money before the month is over",
        )
        self.unpriced = self._counter(
            "unpriced_requests",
            "model",
            unit="calls",
            what="Calls whose model has no price: they stand on the bill without a cost",
            worry="at any: the bill is too low by them",
        )
        self.missing = self._counter(
            "usage_missing",
            "operation",
            unit="calls",
            what="Responses that should have brought usage and brought none; billed by estimate",
            worry="at any: the upstream answers otherwise than it should",
        )

    def _declare_limits(self) -> None:
        self.shadow_refusals = self._counter(
            "shadow_refusals",
            "project limit",
            unit="requests",
            what="Requests that a shadow limit would have refused",
            worry="before the limit is made a real one, when there are any",
        )
        self.limiter_errors = self._counter(
            "limiter_errors",
            unit="errors",
            what="Times that Redis didn't do what was asked of it",
            worry="while it grows: each process counts limits alone",
        )
        self.budget_used = self._gauge(
            "budget_used_ratio",
            "project",
            unit="of 1",
            what="How much is used of a project's budgets, or of its keys', of that of which most is",
            worry="from 0.8 on; near 1, calls that may cost more than what is left are refused",
        )
        self.limit_used = self._gauge(
            "limit_used_ratio",
            "project limit",
            unit="of 1",
            what="How much is used of a project's limits of a kind, or of its keys', of that of which most is",
            worry="when it stays over 0.9: calls are about to be refused",
        )

    def _declare_upstreams(self) -> None:
        self.upstream_requests = self._counter(
            "upstream_requests",
            "upstream status",
            unit="requests",
            what="Requests sent up, by what the upstream answered; failed, where no answer came",
            worry="when the share of 429 or of failed grows",
        )
        self.attempts = self._counter(
            "attempts",
            "outcome",
            unit="attempts",
            what="Requests sent up, by what became of them",
            worry="at any credential_refused, and when rate_limited grows steadily",
        )
        self.upstream_available = self._gauge(
            "upstream_available",
            "upstream",
            together="livemin",
            unit="1",
            what="1, or 0 where an upstream is disabled, or out for all models",
            worry="when it is 0 for ten minutes, at once when it is for all",
        )
        self.upstream_models_out = self._gauge(
            "upstream_models_out",
            "upstream",
            together="livemax",
            unit="models",
            what="For how many models an upstream is out now, those of all not counted",
            worry="when it stays over 0: its quota is too small, or Google is overloaded",
        )

    def _declare_ledger(self) -> None:
        self.ledger_commit = self._histogram(
            "ledger_commit_seconds",
            "",
            COMMIT_SECONDS,
            what="Time that one commit of the ledger file took, its fsync included",
            worry="when its 99th percentile stays over 0.5: every call waits for one",
        )
        self.unshipped_records = self._gauge(
            "unshipped_records",
            unit="records",
            what="Records that PostgreSQL hasn't got yet",
            worry="when it stays over 1000 for minutes",
        )
        self.ledger_lag = self._gauge(
            "ledger_lag_seconds",
            unit="seconds",
            what="Age of the oldest record that PostgreSQL hasn't got yet",
            worry="when it is over 300: reports are behind by as much",
        )
        self.data_free = self._gauge(
            "data_free_bytes",
            unit="bytes",
            what="Free on the file system of storage.data_dir; NaN where it can't be asked",
            worry="below a twentieth of its size, or 1 GB: on a full disk every metered call is refused",
        )
        self.data_size = self._gauge(
            "data_size_bytes",
            unit="bytes",
            what="Size of the file system of storage.data_dir; NaN where it can't be asked",
            worry="when it isn't the volume's that you meant it to be on",
        )

    def _declare_process(self) -> None:
        self.config_reloads = self._counter(
            "config_reloads",
            "outcome",
            unit="reloads",
            what="Times that the configuration was read anew by a running server",
            worry="at any rejected: the next start would fail",
        )
        self.workers_replaced = self._counter(
            "workers_replaced",
            unit="processes",
            what="Processes that died and were replaced",
            worry="at any: the log says how it died, and its calls in flight became unsettled",
        )
        self.build_info = self._gauge(
            "build_info",
            "version",
            unit="1",
            what="The version that runs",
            worry="when nodes differ for longer than an upgrade takes",
        )

    def _counter(self, name: str, labels: str = "", *, unit: str, what: str, worry: str) -> Counter:
        return Counter(f"weighbridge_{name}", _help(what, unit, worry), labels.split(), registry=self.registry)

    def _histogram(self, name: str, labels: str, buckets: tuple[float, ...], *, what: str, worry: str) -> Histogram:
        text = _help(what, "seconds", worry)
        return Histogram(f"weighbridge_{name}", text, labels.split(), buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, labels: str = "", *, unit: str, what: str, worry: str, together: str = "all") -> Gauge:
        """`together`: how those of several processes are made one, as prometheus-client's multiprocess mode calls it;
        "all": they aren't, and the control process's is told."""
        return Gauge(
            f"weighbridge_{name}",
            _help(what, unit, worry),
            labels.split(),
            registry=self.registry,
            multiprocess_mode=together,  # type: ignore[arg-type]
        )


def _help(what: str, unit: str, worry: str) -> str:
    return f"{what}. Unit: {unit}. Worry {worry}."
