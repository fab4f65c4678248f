"""What is left for n pictures, and what to do where it is too little."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.cli.doctor.findings import Finding, Verdict
from proxy.cli.image.left import findings


def limit(kind: str, value: int, used: int, **more: Any) -> dict[str, Any]:
    common = {"model": "*", "scope": "project", "shadow": False, "resets_at": None}
    return {"kind": kind, "value": value, "used": used, **common, **more}


def budget(value: str, used: str, **more: Any) -> dict[str, Any]:
    common = {"model": "*", "scope": "key", "shadow": False, "resets_at": "2026-12-01T08:00:00Z", "per": "month"}
    return {"kind": "usd", "value": value, "used": used, **common, **more}


def one(limit: dict[str, Any], n: int = 1) -> Finding:
    [finding] = findings([limit], "gemini-3-pro-image", n)
    return finding


@pytest.mark.parametrize(
    ("limited", "n", "verdict", "what", "do"),
    [
        (limit("rpm", 1000, 1), 1, Verdict.OK, "999 of 1,000 calls a minute (project)", ""),
        (limit("ipm", 5, 3), 2, Verdict.OK, "2 of 5 images a minute (project)", ""),
        (limit("ipm", 5, 3), 3, Verdict.PROBLEM, "2 of 5 images a minute (project)", "wait a minute, or --n 2"),
        (limit("ipm", 5, 7), 1, Verdict.PROBLEM, "0 of 5 images a minute (project)", "wait a minute: others' calls"),
        (limit("tpm", 100, 99), 9, Verdict.OK, "1 of 100 prompt tokens a minute (project)", ""),
        (limit("concurrency", 2, 0), 3, Verdict.WARNING, "2 of 2 calls at once (project), and 3 pictures", "--n 2"),
        (
            limit("rpd", 9, 9, resets_at="2026-11-23T08:00:00Z"),
            1,
            Verdict.PROBLEM,
            "0 of 9 calls a day (project)",
            "wait until 2026-11-23T08:00:00Z, or have",
        ),
        (limit("rpm", 1, 1, shadow=True), 1, Verdict.OK, "(project, which refuses nobody)", ""),
        (limit("rpm", 1, 0, model="gemini-3-PRO-*"), 1, Verdict.OK, "calls a minute of gemini-3-PRO-* (project)", ""),
        (budget("10", "4.2"), 1, Verdict.OK, "$5.8 of $10 a month (key)", ""),
        (budget("10", "12", per="total", resets_at=None), 1, Verdict.PROBLEM, "$0 of $10 in all (key)", "have whoever"),
        (budget("10", "10"), 1, Verdict.PROBLEM, "$0 of $10 a month (key)", "wait until 2026-12-01T08:00:00Z, or have"),
    ],
)
def test_what_is_left_and_what_to_do(limited: dict[str, Any], n: int, verdict: Verdict, what: str, do: str) -> None:
    found = one(limited, n)
    assert found.verdict is verdict
    assert what in found.what
    assert found.do.startswith(do)
    assert bool(do) == bool(found.do)


def test_limits_of_other_models_are_left_out() -> None:
    assert one(limit("rpm", 1, 1, model="gemini-3.8-*")).what == "no limit and no budget counts for this model"
