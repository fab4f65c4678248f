"""Metrics: what is counted, under which labels, and that nobody can make more of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from proxy.gemini.surface import OPERATIONS
from proxy.telemetry.metrics import ATTEMPT_OUTCOMES, MAX_OPERATIONS, MAX_PROJECTS, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def test_the_backlog_of_the_ledger_is_told_as_it_is_now() -> None:
    metrics = Metrics("1", [])
    metrics.unshipped(7, 90.5)
    assert value(metrics, "weighbridge_unshipped_records") == 7
    assert value(metrics, "weighbridge_ledger_lag_seconds") == 90.5
    metrics.unshipped(0, 0)
    assert value(metrics, "weighbridge_unshipped_records") == 0


def test_a_request_is_counted_under_its_project_operation_model_and_status() -> None:
    metrics = Metrics("1.2.3", ["gemini-3-pro-image"])
    for _ in range(2):
        metrics.finished("alice", "generateContent", "gemini-3-pro-image", 200, 0.2)
    labels = {"project": "alice", "operation": "generateContent", "model": "gemini-3-pro-image", "status": "200"}
    assert value(metrics, "weighbridge_requests_total", **labels) == 2
    assert value(metrics, "weighbridge_request_duration_seconds_count", operation="generateContent") == 2


def test_what_a_call_cost_is_counted_in_dollars_tokens_and_images() -> None:
    metrics = Metrics("1.2.3", ["m"])
    metrics.weighed("alice", "m", {"input_text": 12, "output_image": 1120}, 1, 34_000_000)
    assert value(metrics, "weighbridge_cost_usd_total", project="alice", model="m") == 0.034
    assert value(metrics, "weighbridge_images_total", project="alice", model="m") == 1
    tokens = {"project": "alice", "model": "m", "direction": "output", "modality": "image"}
    assert value(metrics, "weighbridge_tokens_total", **tokens) == 1120


def test_searches_are_not_counted_as_tokens() -> None:
    metrics = Metrics("1.2.3", ["m"])
    metrics.weighed("alice", "m", {"search": 2, "input_text": 1}, 0, 0)
    assert sum(v for (name, _), v in samples(metrics).items() if name == "weighbridge_tokens_total") == 1


def test_a_call_without_a_price_is_counted_as_such_and_not_as_free() -> None:
    metrics = Metrics("1.2.3", ["m"])
    metrics.weighed("alice", "m", {"input_text": 1}, 0, None)
    metrics.weighed("alice", "m", {"input_text": 1}, 0, 0)
    assert value(metrics, "weighbridge_unpriced_requests_total", model="m") == 1


def junk(metrics: Metrics, numbers: Iterable[int]) -> None:
    """All that callers, upstreams, and reloads one after the other can name, each of them new."""
    for one in numbers:
        project, model, operation = f"project-{one}", f"model-{one}", f"operation/{one}"
        metrics.finished(project, operation, model, one, 0.1)
        metrics.finished(project, "generateContent", model, 404, 0.1)
        metrics.answered(operation, 0.1)
        metrics.held_up(operation, 0.1)
        metrics.refused(project, "UNKNOWN_OPERATION")
        metrics.refused("", f"reason {one}")
        metrics.shadow_refused(project, "rpm")
        metrics.usage_missed(operation)
        metrics.weighed(project, model, {"input_text": 1, f"output_{one}": 1}, 1, None)
        metrics.know_models([f"book-{one}", f"book-{one}-lite"])
        metrics.finished("alice", "generateContent", f"book-{one}", 200, 0.1)
        metrics.know_upstreams({f"upstream-{one}": True})
        metrics.attempted(f"upstream-{one}", one % 1000, "answered")
        metrics.upstream_changed(f"upstream-{one}", False)
        metrics.models_out({f"upstream-{one}": 3})


def series(metrics: Metrics) -> Counter[str]:
    """How many of each metric; of a histogram, how many have one."""
    found = (sample for family in metrics.registry.collect() for sample in family.samples)
    return Counter(sample.name for sample in found if "le" not in sample.labels)


def kept(metrics: Metrics) -> list[int]:
    """How much it holds in memory of what was named."""
    held = [one for one in vars(metrics).values() if isinstance(one, dict | frozenset | set | list)]
    return [len(one) for one in (*held, metrics.project._known, metrics._upstream._known)]


def test_whatever_is_named_over_time_there_are_only_so_many_series() -> None:
    """10,000 projects, models, operations, reasons, statuses and upstreams; more of them add none, nor any memory."""
    metrics = Metrics("1", [], most=500)
    junk(metrics, range(10_000))
    told, held = series(metrics), kept(metrics)
    assert all(number <= 2 * 500 + 1 for number in told.values()), told
    assert max(held) <= 2 * 500 + 1
    for histogram in ("request_duration_seconds", "first_byte_seconds", "overhead_seconds"):
        assert told[f"weighbridge_{histogram}_count"] <= MAX_OPERATIONS + 1
    assert told["weighbridge_upstream_available"] == 0, "a process names a thousand, whatever reloads do"
    junk(metrics, range(10_000, 12_000))
    assert (series(metrics), kept(metrics)) == (told, held)
    counted = metrics.requests.collect()[0].samples
    assert sum(sample.value for sample in counted) == 3 * 12_000, "and every request is counted"
    assert {sample.value for sample in counted if sample.labels["project"] == "project-7"} == {1}


def test_a_thousand_projects_have_room() -> None:
    """Each with four models, both ways of asking, and what is refused now and then."""
    metrics = Metrics("1", ["a", "b", "c", "d"])
    for project in range(MAX_PROJECTS):
        for model in "abcd":
            for operation in ("generateContent", "streamGenerateContent"):
                for status in (200, 429):
                    metrics.finished(f"project-{project}", operation, model, status, 0.1)
    assert series(metrics)["weighbridge_requests_total"] == MAX_PROJECTS * 4 * 2 * 2


def test_a_counter_brings_no_second_series_that_says_when_it_began() -> None:
    metrics = Metrics("1.2.3", ["m"])
    metrics.finished("alice", "generateContent", "m", 200, 0.1)
    assert "_created" not in metrics.exposition().decode()


def test_a_budget_that_is_no_more_is_told_no_more_and_made_up_projects_share_a_series() -> None:
    metrics = Metrics("1.2.3", [])
    metrics.budgets_used({"alice": 0.5, "bob": 0.25})
    metrics.budgets_used({"alice": 0.75})
    assert value(metrics, "weighbridge_budget_used_ratio", project="alice") == 0.75
    assert value(metrics, "weighbridge_budget_used_ratio", project="bob") is None
    metrics.budgets_used({f"project-{number}": number / 10_000 for number in range(MAX_PROJECTS + 10)})
    assert value(metrics, "weighbridge_budget_used_ratio", project="other") == (MAX_PROJECTS + 9) / 10_000


def test_every_upstream_has_a_series_from_the_start_and_one_that_is_gone_has_none() -> None:
    metrics = Metrics("1.2.3", [])
    metrics.upstream_changed("a", False)
    assert value(metrics, "weighbridge_upstream_available", upstream="a") is None, "nobody has said that it is there"
    metrics.know_upstreams({"a": True, "b": False})
    assert value(metrics, "weighbridge_upstream_available", upstream="a") == 1
    assert value(metrics, "weighbridge_upstream_available", upstream="b") == 0
    metrics.upstream_changed("b", True)
    metrics.know_upstreams({"b": True, "c": True})
    metrics.upstream_changed("a", False)  # a last call of a former configuration
    named = {dict(key)["upstream"]: v for (name, key), v in samples(metrics).items() if name.endswith("_available")}
    assert named == {"b": 1, "c": 1}


def test_every_outcome_of_an_attempt_is_there_from_the_start() -> None:
    """Else an alert on its increase misses the first."""
    metrics = Metrics("1.2.3", [])
    for outcome in ATTEMPT_OUTCOMES:
        assert value(metrics, "weighbridge_attempts_total", outcome=outcome) == 0


def test_what_should_never_happen_is_there_before_it_does() -> None:
    """Of a counter that appears with its first call, `increase` never shows that call."""
    metrics = Metrics("1", [])
    for operation in OPERATIONS:
        counted = value(metrics, "weighbridge_usage_missing_total", operation=operation.name)
        assert counted == (0 if operation.metered else None)
    assert value(metrics, "weighbridge_unpriced_requests_total", model="other") == 0


def test_a_limit_that_is_no_more_is_told_no_more() -> None:
    metrics = Metrics("1", [])
    metrics.limits_used({("alice", "rpm"): 0.5, ("alice", "ipm"): 1.0, ("bob", "rpm"): 0.25})
    assert value(metrics, "weighbridge_limit_used_ratio", project="alice", limit="ipm") == 1
    metrics.limits_used({("alice", "rpm"): 0.75})
    told = {key: v for key, v in samples(metrics).items() if key[0] == "weighbridge_limit_used_ratio"}
    assert [(dict(labels), v) for (_, labels), v in told.items()] == [({"project": "alice", "limit": "rpm"}, 0.75)]


def test_an_upstream_tells_for_how_many_models_it_is_out() -> None:
    metrics = Metrics("1", [])
    metrics.know_upstreams({"a": True, "b": True})
    out: dict[str, int] = {"a": 2, "gone": 7}
    metrics.look_before(lambda: metrics.models_out(out))
    told = {
        dict(labels)["upstream"]: v for (name, labels), v in samples(metrics).items() if name.endswith("_models_out")
    }
    assert told == {"a": 2, "b": 0}, "it is looked at when it is told"


def test_the_disk_of_the_data_folder_is_told_and_one_that_cannot_be_asked_is_no_number(tmp_path: Path) -> None:
    metrics = Metrics("1", [])
    metrics.watch_disk(tmp_path)
    disk = os.statvfs(tmp_path)
    assert value(metrics, "weighbridge_data_size_bytes") == disk.f_blocks * disk.f_frsize
    free = value(metrics, "weighbridge_data_free_bytes")
    assert free is not None
    assert 0 < free < disk.f_blocks * disk.f_frsize
    metrics.watch_disk(tmp_path / "gone")
    free = value(metrics, "weighbridge_data_free_bytes")
    assert free != free, "neither full nor empty"
