"""What limit options ask for together, and how what holds is told."""

from __future__ import annotations

import pytest

from proxy.cli.policy_options import changed, changes, limits_told, models_told
from proxy.config.limits import parse_all
from proxy.tenants.projects import BadOptionError


def test_flags_and_limits_in_full_stand_side_by_side() -> None:
    asked = changes(["ipm=5,model=*-image*"], None, None, rpm="60", tpm=None, concurrency="none")
    assert asked == ["rpm=60", "concurrency=none", "ipm=5,model=*-image*"]
    assert changes(None, None, None, rpm=None) == []


def test_a_budget_is_for_a_month_unless_it_says_for_what() -> None:
    assert changes(None, "100", None) == ["usd=100,per=month"]
    assert changes(["rpm=1"], "none", "total") == ["usd=none,per=total", "rpm=1"]
    with pytest.raises(BadOptionError, match="give --budget, too"):
        changes(None, None, "day")


def test_changes_that_contradict_each_other_are_an_error_that_is_expected() -> None:
    with pytest.raises(BadOptionError, match="given twice"):
        changed((), ["rpm=60", "rpm=none"])
    assert changed(parse_all(["rpm=1"]), ["rpm=60"]) == parse_all(["rpm=60"])


def test_what_holds_is_told_in_a_line() -> None:
    assert limits_told(parse_all(["rpm=60", "ipm=5,model=a,shadow"])) == "rpm=60; ipm=5,model=a,shadow"
    assert limits_told(()) == "none"
    assert models_told(("*",)) == "all"
    assert models_told(("a", "b-*")) == "a, b-*"
