"""What is left of a key's limits and budgets, and of its project's, for pictures that are to be made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.globs import matcher

_COUNTS_PICTURES = ("rpm", "rpd", "ipm", "concurrency")
_WHAT = {
    "rpm": "calls a minute",
    "rpd": "calls a day",
    "ipm": "images a minute",
    "tpm": "prompt tokens a minute",
    "concurrency": "calls at once",
}


def findings(limits: Sequence[dict[str, Any]], model: str, n: int) -> Iterator[Finding]:
    """One of each limit that counts for n pictures of a model. `limits` are as /weighbridge/v1/limits tells them."""
    found = [limit for limit in limits if matcher(limit["model"], any_case=True)(model)]
    for limit in found:
        yield _budget(limit) if "per" in limit else _limit(limit, n)
    if not found:
        yield ok("no limit and no budget counts for this model")


def _limit(limit: dict[str, Any], n: int) -> Finding:
    rest = max(0, limit["value"] - limit["used"])
    what = f"{rest:,} of {limit['value']:,} {_WHAT.get(limit['kind'], limit['kind'])}{_whose(limit)}"
    needed = n if limit["kind"] in _COUNTS_PICTURES else 1
    if rest >= needed or limit["shadow"]:
        return ok(what)
    if limit["resets_at"]:
        return problem(what, f"wait until {limit['resets_at']}, or have whoever runs the proxy raise it")
    if limit["kind"] == "concurrency" and rest:
        return warning(f"{what}, and {n} pictures are {n} calls", f"--n {rest}")
    return problem(
        what, f"wait a minute, or --n {rest}" if rest else "wait a minute: others' calls, or earlier ones, took it"
    )


def _budget(limit: dict[str, Any]) -> Finding:
    rest = Decimal(limit["value"]) - Decimal(limit["used"])
    per = "in all" if limit["per"] == "total" else f"a {limit['per']}"
    what = f"${max(rest, Decimal(0)):f} of ${limit['value']} {per}{_whose(limit)}"
    if rest > 0 or limit["shadow"]:
        return ok(what)
    until = f"wait until {limit['resets_at']}, or " if limit["resets_at"] else ""
    return problem(what, f"{until}have whoever runs the proxy raise it: `weighbridge project update`, `project credit`")


def _whose(limit: dict[str, Any]) -> str:
    model = "" if limit["model"] == "*" else f" of {limit['model']}"
    shadow = ", which refuses nobody" if limit["shadow"] else ""
    return f"{model} ({limit['scope']}{shadow})"
