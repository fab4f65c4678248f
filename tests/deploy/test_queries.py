"""Every query of every dashboard, asked of a real Prometheus that scraped a real run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.deploy.dashboards import DASHBOARDS, Question, questions
from tests.deploy.prometheus_server import Prometheus, running_prometheus
from tests.deploy.scenes import everything

pytestmark = pytest.mark.programs("prometheus", "promtool")

QUESTIONS = [question for path in DASHBOARDS for question in questions(path)]
SCRAPED_EVERY_S = 0.25
STEP_S = 15.0
"""The distance of a picture's points, which is to reach over the whole run: rates have it in one of them."""
SHARED = ("budget_used_ratio", "limit_used_ratio", "upstream_available", "upstream_models_out")
"""What every node tells, and of the same thing."""
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Run:
    """What Prometheus knows of one Weighbridge that it scraped under two names, and from when till when that is."""

    prometheus: Prometheus
    nodes: tuple[str, str]
    began: float
    ended: float

    def told(self, question: Question, job: str = "weighbridge") -> dict[Labels, float]:
        """The last point of what Grafana would show: of each series of the answer, that is a number."""
        expression = question.as_asked(
            {
                "job": job,
                "namespace": ".*",
                "operation": "(generateContent|streamGenerateContent|countTokens)",
                "project": "alice",
                "__range": f"{math.ceil(self.ended - self.began)}s",
                "__rate_interval": f"{max(STEP_S + SCRAPED_EVERY_S, 4 * SCRAPED_EVERY_S) * 1000:.0f}ms",
            }
        )
        found = self.prometheus.query(expression, self.ended)
        return {frozenset(one.labels.items()): one.value for one in found if math.isfinite(one.value)}

    def told_of_each(self, question: Question) -> list[dict[Labels, float]]:
        """The same, by each node alone."""
        return [self.told(question, f'weighbridge", instance="{node}') for node in self.nodes]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One process is scraped under two names, as two nodes that tell the same of what they share."""
    folder = tmp_path_factory.mktemp("run")
    with ExitStack() as around:
        scene = around.enter_context(everything(folder))
        port = scene.stand.admin_url.rpartition(":")[2]
        nodes = f"127.0.0.1:{port}", f"localhost:{port}"
        began = time.time()
        prometheus = around.enter_context(
            running_prometheus(folder / "prometheus", nodes, f"{SCRAPED_EVERY_S * 1000:.0f}ms")
        )
        for _ in range(2):
            scene.traffic()
            prometheus.scraped(2)
        prometheus.told('weighbridge_limit_used_ratio{project="alice"}')
        prometheus.told('weighbridge_budget_used_ratio{project="alice"} > 0.4')  # twice that would be nearly used
        prometheus.told('ALERTS{alertstate="firing"}')
        yield Run(prometheus, nodes, began, time.time())


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_a_query_has_data(run: Run, question: Question) -> None:
    """What each panel asks for is there; none is empty for a label or a metric that doesn't exist."""
    assert run.told(question), question.expr


def _adds_up(question: Question) -> bool:
    """Whether each node tells of its own, in what can be added. No share and no time can."""
    return question.unit not in ("percentunit", "s") and not any(name in question.expr for name in SHARED)


def _between(one: float, values: list[float]) -> bool:
    return min(values) * 0.999 <= one <= max(values) * 1.001


@pytest.mark.parametrize("question", [one for one in QUESTIONS if "ALERTS" not in one.expr], ids=str)
def test_a_query_over_two_nodes_is_right(run: Run, question: Question) -> None:
    """What each node counts of its own is added up; what both tell of the same isn't."""
    together, each = run.told(question), run.told_of_each(question)
    for labels, value in together.items():
        alone = [node[labels] for node in each if labels in node]
        if "instance" in dict(labels):
            assert alone == [value]
        elif _adds_up(question):
            assert value == pytest.approx(sum(alone))
        else:
            assert _between(value, alone)
