"""The dashboards' files: whole, regular, and in step with the metrics, the docs and Prometheus' configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Reason
from proxy.telemetry.metrics import Metrics
from tests.deploy.dashboards import DASHBOARDS, GRAFANA, VARIABLE, formatted, questions, read
from tests.deploy.prometheus_server import CONFIG
from tests.pages import ROOT, text_of

SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
OF_GRAFANA = {"__all", "__range", "__rate_interval", "__url_time_range", "__value"}
each_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def _panels(path: Path) -> list[dict[str, Any]]:
    """Those that show something: no rows."""
    return [panel for panel in read(path)["panels"] if panel["type"] != "row"]


def _texts(value: object) -> Iterator[str]:
    """Every string within a JSON value."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


@each_dashboard
def test_a_dashboard_is_formatted(path: Path) -> None:
    """As `python -m tests.deploy.dashboards` writes it, so that a difference of two versions can be read."""
    assert path.read_text("utf-8") == formatted(read(path))


def test_dashboards_keep_their_addresses() -> None:
    """Links and bookmarks go by `uid`; no Grafana's own `id` is in the files, and nothing that asks at import."""
    there = {path.stem: read(path) for path in DASHBOARDS}
    assert {name: one["uid"] for name, one in there.items()} == {
        "operator": "weighbridge-operator",
        "tenant": "weighbridge-tenant",
    }
    assert all(one.keys().isdisjoint({"id", "version", "__inputs", "__requires"}) for one in there.values())
    linked = {uid for path in DASHBOARDS for text in _texts(read(path)) for uid in re.findall(r"/d/([\w-]+)", text)}
    assert linked <= {one["uid"] for one in there.values()}


@each_dashboard
def test_each_panel_has_an_id_and_a_place_of_its_own(path: Path) -> None:
    """No two overlap on the grid of 24 columns, and none hangs over its edge."""
    panels = read(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]) for at in (one["gridPos"] for one in panels)]
    assert all(0 <= left < right <= 24 for left, _, right, _ in places)
    for (one, a), (other, b) in combinations(zip(panels, places, strict=True), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one['title']} lies over {other['title']}"


@each_dashboard
def test_each_panel_says_its_unit_and_how_to_read_it(path: Path) -> None:
    """Each asks the data source that was chosen; a threshold is shown where one is set; letters name queries once."""
    for panel in _panels(path):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["datasource"] == SOURCE, panel["title"]
        assert defaults["unit"], panel["title"]
        assert len(panel["description"]) > 60, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters)), panel["title"]
        if panel["type"] == "timeseries":
            assert ("thresholds" in defaults) == ("thresholdsStyle" in defaults["custom"]), panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@each_dashboard
def test_every_variable_resolves(path: Path) -> None:
    """Whatever begins with $ is Grafana's own or one of the dashboard's, and each of the dashboard's is of use."""
    dashboard = read(path)
    defined = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    used = {name for text in _texts(dashboard) for name in VARIABLE.findall(text)}
    assert used - OF_GRAFANA == defined.keys()
    for variable in defined.values():
        assert variable["type"] != "query" or variable["datasource"] == SOURCE


def test_every_metric_is_in_a_picture() -> None:
    """The operator's dashboard asks for each that exists, and no dashboard for one that doesn't."""
    existing: set[str] = set()
    for family in Metrics("0", ()).registry.collect():
        ending = {"counter": "_total", "histogram": "_bucket"}.get(family.type, "")
        existing.add(family.name + ending)
    asked = {
        path.stem: {name for one in questions(path) for name in re.findall(r"weighbridge_\w+", one.expr)}
        for path in DASHBOARDS
    }
    assert asked["operator"] == existing
    assert asked["tenant"] <= existing


@each_dashboard
def test_every_query_keeps_to_what_was_chosen(path: Path) -> None:
    """To the jobs and namespaces; on a project's dashboard to the project, too: nobody else's figures are in it."""
    for question in questions(path):
        for selector in re.findall(r"\b(?:weighbridge_\w+|up|ALERTS)\b(\{.*?\})?", question.expr):
            assert 'job=~"$job", namespace=~"$namespace"' in selector, question
            assert path.stem == "operator" or 'project="$project"' in selector, question


@each_dashboard
def test_what_descriptions_name_exists(path: Path) -> None:
    """Reasons of refusals in backticks, and files of the repository."""
    for panel in _panels(path):
        words = re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", panel["description"])
        assert set(words) <= {reason.word for reason in Reason}, panel["title"]
        for named in re.findall(r"\b(?:docs|deploy)/[\w/.-]*\w", panel["description"]):
            assert (ROOT / named).exists(), panel["title"]


def test_grafana_knows_how_often_prometheus_asks() -> None:
    """Rates have holes where it believes that there are more samples than are scraped."""
    source = (GRAFANA / "provisioning/datasources/weighbridge.yaml").read_text("utf-8")
    told = re.findall(r"timeInterval: (\S+)", source)
    assert told == re.findall(r"scrape_interval: (\S+)", CONFIG.read_text("utf-8"))


@each_dashboard
def test_runbooks_are_where_alerts_say(path: Path) -> None:
    """The link leads into the folder that alerts link to, which has an index."""
    (base,) = (one["query"] for one in read(path)["templating"]["list"] if one["name"] == "runbooks")
    assert [base] == re.findall(r"^ +runbooks: (\S+)$", CONFIG.read_text("utf-8"), re.MULTILINE)
    (link,) = (link["url"] for link in read(path)["links"] if link["title"] == "Runbooks")
    assert (ROOT / link.replace("${runbooks}", base)).is_file()


@each_dashboard
def test_every_row_is_told_of(path: Path) -> None:
    """In docs/dashboards.md, in bold."""
    told = re.findall(r"\*\*(.+?)\*\*", text_of("docs/dashboards.md"))
    assert {panel["title"] for panel in read(path)["panels"] if panel["type"] == "row"} <= set(told)
