"""Alert rules, their runbooks, their unit tests and the metrics that exist: each is held against the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from proxy.errors import Reason
from proxy.telemetry.metrics import Metrics
from tests.deploy.prometheus_server import CONFIG, DEPLOYED, RULES, Prometheus, promtool
from tests.pages import ROOT, chapter_of

TESTS = DEPLOYED / "alerts_test.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
BASE = "{{ $externalLabels.runbooks }}/"
CHAPTERS = "What it means", "How to look", "What to do", "How to know that it is over"


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in _rules()}
each_alert = pytest.mark.parametrize("alert", ALERTS)


def _page(alert: str) -> str:
    """The name of an alert's page: what is behind the last slash of its runbook_url."""
    url = ALERTS[alert]["annotations"]["runbook_url"]
    assert url.startswith(BASE)
    return str(url.removeprefix(BASE))


def _labels() -> dict[str, set[str]]:
    """Each series that is scraped of a Weighbridge, by its name: the labels that it has besides its target's."""
    found = {"up": set[str]()}
    for collector in Metrics("0", []).registry._collector_to_names:
        assert isinstance(collector, MetricWrapperBase)
        family, labels = next(iter(collector.describe())), set(collector._labelnames)
        if family.type == "histogram":
            found |= {f"{family.name}_bucket": {*labels, "le"}, f"{family.name}_count": labels}
        else:
            found[f"{family.name}_total" if family.type == "counter" else family.name] = labels
    return found


@pytest.mark.usefixtures("promtool_there")
def test_promtool_finds_nothing_wrong() -> None:
    """With the configuration, and with the rules, duplicates among them."""
    for said in (promtool("check", "config", CONFIG), promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)):
        assert said[0] == 0, said[1]


@pytest.mark.usefixtures("promtool_there")
def test_each_alert_fires_and_keeps_silent_as_its_unit_tests_say() -> None:
    code, said = promtool("test", "rules", TESTS)
    assert code == 0, said


@each_alert
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    tests = [one for group in yaml.safe_load(TESTS.read_text("utf-8"))["tests"] for one in group["alert_rule_test"]]
    cases = [bool(one["exp_alerts"]) for one in tests if one["alertname"] == alert]
    assert set(cases) == {True, False}


@each_alert
def test_each_alert_says_how_bad_it_is_what_it_is_about_and_where_to_read_on(alert: str) -> None:
    """Its page is called as it is; it tells the alert's own name and severity, and answers four questions."""
    rule = ALERTS[alert]
    kebab = re.sub(r"(?<!^)(?=[A-Z])", "-", alert.removeprefix("Weighbridge")).lower()
    assert _page(alert) == f"{kebab}.md"
    page = f"docs/runbooks/{kebab}.md"
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert f"Severity: **{rule['labels']['severity']}**" in chapter_of(page, alert)
    assert all(len(chapter_of(page, chapter)) > 40 for chapter in CHAPTERS)
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert len(annotations["summary"]) < 100
    assert annotations["description"].endswith(".")


def test_each_page_is_an_alerts_and_stands_in_the_index() -> None:
    """With its severity, as a link; and nothing else is called an alert there."""
    rows = re.findall(
        r"\| \[(Weighbridge\w+)\]\(([\w-]+\.md)\) \| (\w+) \|", (RUNBOOKS / "index.md").read_text("utf-8")
    )
    assert sorted(rows) == sorted((name, _page(name), rule["labels"]["severity"]) for name, rule in ALERTS.items())


def _selectors(expression: str) -> Iterator[tuple[str, str]]:
    """Each series that an expression asks for: its name, and what is in its braces."""
    yield from re.findall(r"\b(weighbridge_\w+|up)\b(?:\{([^}]*)\})?", expression)


@each_alert
def test_each_alert_asks_for_series_that_exist(alert: str) -> None:
    """With labels that they have, and reasons and outcomes that there are; grouped by labels that they have, too."""
    known, expression = _labels(), ALERTS[alert]["expr"]
    asked = list(_selectors(expression))
    assert asked
    assert {name for name, _ in asked} <= known.keys()
    own = {label for name, _ in asked for label in known[name]}
    for name, braces in asked:
        matched = dict(re.findall(r'(\w+)=~?"([^"]*)"', braces))
        assert matched.keys() - {"job"} <= known[name]
        assert set(matched.get("reason", "").split("|")) - {""} <= {reason.word for reason in Reason}
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert set(grouped.split(", ")) <= own | {"job", "namespace", "instance"}


@pytest.mark.parametrize(
    ("alert", "name", "threshold"),
    [
        ("LedgerSlow", "ledger_commit_seconds", "0.5"),
        ("LedgerLag", "ledger_lag_seconds", "300"),
        ("UnshippedRecords", "unshipped_records", "1000"),
        ("BudgetNearlyUsed", "budget_used_ratio", "0.8"),
    ],
)
def test_a_metric_says_to_worry_where_its_alert_does(alert: str, name: str, threshold: str) -> None:
    """In its HELP, and in docs/metrics.md."""
    declared = Metrics("0", []).registry._names_to_collectors[f"weighbridge_{name}"]
    (row,) = re.findall(rf"(?m)^\| `weighbridge_{name}` \|.*$", (ROOT / "docs" / "metrics.md").read_text("utf-8"))
    asked = rf"[><]=? {re.escape(threshold)}\b"
    assert re.search(asked, ALERTS[f"Weighbridge{alert}"]["expr"])
    worry = next(iter(declared.describe())).documentation, row.rpartition(" | ")[2]
    assert all(re.search(rf"(from|over) {re.escape(threshold)}\b", text.lower()) for text in worry), worry


def test_what_is_told_of_once_for_a_fleet_is_told_apart_by_fleet() -> None:
    """Every aggregation keeps job and namespace: no fleet's alarm is lost in another's."""
    for rule in ALERTS.values():
        for grouped in re.findall(r"by \(([^)]*)\)", rule["expr"]):
            assert grouped.startswith("job, namespace")


def test_a_prometheus_takes_the_deployed_configuration(start_prometheus: Callable[..., Prometheus]) -> None:
    """All rules are loaded, and evaluated without a complaint, also where there is nothing to be scraped."""
    prometheus = start_prometheus(["127.0.0.1:1"])
    prometheus.told('ALERTS{alertname="WeighbridgeDown"}')
    rules = prometheus.rules()
    assert {rule["name"] for rule in rules} == ALERTS.keys()
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
