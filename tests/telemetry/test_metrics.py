"""Metrics: what is counted, under which labels, and that nobody can make more of them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.metrics import ATTEMPT_OUTCOMES, MAX_PROJECTS, Metrics


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


def test_names_that_callers_make_up_add_no_series() -> None:
    metrics = Metrics("1.2.3", ["m"])
    for number in range(2000):
        metrics.finished(f"p{number}", "generateContent", f"junk-{number}", 404, 0.1)
    labels = [dict(key) for name, key in samples(metrics) if name == "weighbridge_requests_total"]
    assert {label["model"] for label in labels} == {"other"}
    assert len({label["project"] for label in labels}) == MAX_PROJECTS + 1


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
