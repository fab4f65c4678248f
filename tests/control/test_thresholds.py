"""Which thresholds a budget has reached, and what is told of it."""

from __future__ import annotations

import pytest

from proxy.control.thresholds import BudgetUse, crossed, ratios

USD = 1_000_000_000


def use(used: float, budget: float = 100, project: str = "alice", key_id: str | None = None) -> BudgetUse:
    return BudgetUse(project, key_id, int(budget * USD), "2026-11", int(used * USD))


@pytest.mark.parametrize(
    ("used", "reached"),
    [(0, []), (49.999999999, []), (50, [50]), (79.9, [50]), (80, [50, 80]), (100, [50, 80, 100]), (250, [50, 80, 100])],
)
def test_a_threshold_is_reached_to_the_nano_dollar(used: float, reached: list[int]) -> None:
    assert [told["threshold"] for _, told in crossed([use(used)])] == reached


def test_a_budget_of_nothing_is_reached_by_the_first_call_that_costs() -> None:
    assert [told["threshold"] for _, told in crossed([use(0, 0)])] == []
    assert [told["threshold"] for _, told in crossed([use(0.01, 0)])] == [100]
    assert ratios([use(0, 0)]) == {"alice": 0.0}
    assert ratios([use(1, 0)]) == {"alice": 1.0}


def test_what_is_told_says_whose_budget_it_is_and_how_much_is_used() -> None:
    ((_, told),) = crossed([use(50.0336, key_id="key_1")])
    assert told == {
        "project": "alice",
        "key_id": "key_1",
        "period": "2026-11",
        "model": "*",
        "shadow": False,
        "threshold": 50,
        "budget_usd": "100",
        "spent_usd": "50.0336",
    }


def test_each_budget_period_and_threshold_is_a_matter_of_its_own() -> None:
    uses = [use(100), use(60, 101), use(60, key_id="key_1"), use(60, project="bob"), use(60)._replace(period="total")]
    uses += [use(60)._replace(model="*-image"), use(60)._replace(shadow=True)]
    matters = [once for once, _ in crossed(uses)]
    assert len(matters) == len(set(matters)) == 3 + 6
    assert {once for once, _ in crossed([use(55)])} <= set(matters), "however much is used"


def test_the_fullest_budget_of_a_project_is_its_ratio() -> None:
    assert ratios([use(10), use(90, 200), use(3, 4, key_id="key_1"), use(5, project="bob")]) == {
        "alice": 0.75,
        "bob": 0.05,
    }
