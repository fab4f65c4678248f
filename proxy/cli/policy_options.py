"""Options by which projects and keys are narrowed, limits and models, and how what is in force is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from proxy.config import limits as notation
from proxy.config.limits import Limit
from proxy.tenants.policy import ALL
from proxy.tenants.projects import BadOptionError, bad_options


def _flag(kind: str, what: str) -> Any:
    return typer.Option(f"--{kind}", metavar="N|none", help=what, show_default=False)


RpmOption = Annotated[str | None, _flag("rpm", "Calls a minute, at most; none: without this limit.")]
TpmOption = Annotated[str | None, _flag("tpm", "Prompt tokens a minute.")]
RpdOption = Annotated[str | None, _flag("rpd", "Calls a day, of `limits.timezone`.")]
IpmOption = Annotated[str | None, _flag("ipm", "Images a minute.")]
ConcurrencyOption = Annotated[str | None, _flag("concurrency", "Calls at the same time.")]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", metavar="USD|none", help="USD that may be spent in a period.", show_default=False),
]
BudgetPeriodOption = Annotated[
    str | None,
    typer.Option(
        "--budget-period",
        metavar="day|month|total",
        help="What `--budget` is for; a month where this isn't given.",
        show_default=False,
    ),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="LIMIT",
        help="A limit in full, such as `ipm=5,model=gemini-3-pro-*` or `usd=2.50,per=day,shadow`; may be given again.",
        show_default=False,
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        metavar="GLOB",
        help="A model that may be used, or a glob such as `gemini-*`; may be given again. `'*'` is all.",
        show_default=False,
    ),
]


def changes(
    limits: Sequence[str] | None, budget: str | None, budget_period: str | None, **flags: str | None
) -> list[str]:
    """What all limit options together ask for: texts for `proxy.config.limits.change`. Raises BadOptionError."""
    asked = [f"{kind}={value}" for kind, value in flags.items() if value is not None]
    if budget is not None:
        asked.append(f"usd={budget},per={budget_period or 'month'}")
    elif budget_period is not None:
        raise BadOptionError(f"--budget-period {budget_period} says for how long, and not how much: give --budget, too")
    return asked + list(limits or ())


def changed(limits: Iterable[Limit], texts: Sequence[str]) -> tuple[Limit, ...]:
    """Limits with such changes made. Raises BadOptionError."""
    with bad_options():
        return notation.change(limits, texts)


def limits_told(limits: Sequence[object]) -> str:
    """With semicolons between: a limit has commas of its own."""
    return "; ".join(map(str, limits)) or "none"


def models_told(models: Sequence[str]) -> str:
    return "all" if tuple(models) == ALL else ", ".join(models)
