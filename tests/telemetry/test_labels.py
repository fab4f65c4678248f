"""Label values: so many, and no more; what is too much is counted all the same."""

from __future__ import annotations

import structlog
from prometheus_client import CollectorRegistry, Counter

from proxy.telemetry.labels import OTHER, Children, Names, status_of


def test_the_first_names_are_named_and_the_others_share_one() -> None:
    names = Names(2)
    assert [names(name) for name in ("a", "b", "c", "a", "d", "b")] == ["a", "b", OTHER, "a", OTHER, "b"]


def test_a_status_is_named_where_http_has_a_meaning_for_it() -> None:
    assert [status_of(status) for status in (0, 200, 429, 529)] == ["0", "200", "429", "529"]
    assert [status_of(status) for status in (299, 402, 498, 599, 600, 999)] == [
        "2xx",
        "402",
        "4xx",
        "5xx",
        *2 * [OTHER],
    ]
    assert len({status_of(status) for status in range(-1, 2000)}) < 75


def test_a_full_metric_still_counts_by_project_and_then_at_least_all() -> None:
    """Nothing is lost: whatever callers make up, the sum is right, and so are the sums of those who came in time."""
    metric = Counter("asked", "…", ["project", "model"], registry=CollectorRegistry())
    children = Children(metric, most=4)
    with structlog.testing.capture_logs() as lines:
        for model in range(10):
            for project in ("alice", "bob", "carol", "dave", "erin"):
                children[project, f"m{model}"].inc()
    told = [sample for sample in metric.collect()[0].samples if sample.name == "asked_total"]
    sums: dict[str, float] = {}
    for sample in told:
        sums[sample.labels["project"]] = sums.get(sample.labels["project"], 0) + sample.value
    assert sums == {"alice": 10, "bob": 10, "carol": 10, "erin": 10, "dave": 1, OTHER: 9}
    assert len(told) == len(children) == 2 * 4 + 1
    assert [line["event"] for line in lines] == ["metric_full"], "said once"
