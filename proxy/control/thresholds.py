"""When so much of a budget is spent that somebody is to be told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from proxy.billing.records import to_usd

THRESHOLDS = (50, 80, 100)
"""Per cent of a budget."""


class BudgetUse(NamedTuple):
    """What is spent of one budget in the period that is in force, or that lately was. Nano-dollars."""

    project: str
    key_id: str | None
    """None: the project's own."""
    budget: int
    period: str
    """As limits name it: "2026-11-21", "2026-11", "total"."""
    spent: int
    model: str = "*"
    """A glob of the models that it is for."""
    shadow: bool = False
    """It refuses nobody."""
    over: bool = False
    """Its period is."""


def crossed(uses: Iterable[BudgetUse]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each threshold that is reached, the lowest first: what it is about in a word, and what is told of it."""
    for use in uses:
        for threshold in THRESHOLDS:
            if use.spent > 0 and use.spent * 100 >= use.budget * threshold and (use.budget or threshold == 100):
                which = f"{use.budget} {use.period} {use.model}{' shadow' if use.shadow else ''}"
                yield (
                    f"budget.threshold {use.project} {use.key_id or '-'} {which} {threshold}",
                    {
                        "project": use.project,
                        "key_id": use.key_id,
                        "period": use.period,
                        "model": use.model,
                        "shadow": use.shadow,
                        "threshold": threshold,
                        "budget_usd": to_usd(use.budget),
                        "spent_usd": to_usd(use.spent),
                    },
                )


def ratios(uses: Iterable[BudgetUse]) -> dict[str, float]:
    """Of each project how much is spent now of that budget of it, or of its keys, of which most is."""
    found: dict[str, float] = {}
    for use in uses:
        if use.over:
            continue
        ratio = use.spent / use.budget if use.budget else float(use.spent > 0)
        found[use.project] = max(ratio, found.get(use.project, 0.0))
    return found
