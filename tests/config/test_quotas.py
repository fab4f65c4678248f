"""An upstream's own quota as it is written: what a model may be asked for, and what is told of a mistake."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import Any

import pytest

from proxy.config import quotas
from proxy.config.quotas import NO_QUOTA, Quota

WRITTEN = """
rpm = 1000
tpm = 4_000_000
usd_per_10min = 12.5
"gemini-3-pro-image*" = {ipm = 10, rpm = 20}
"gemini-3-*" = {rpd = 5}
"""


def read(text: str) -> Quota:
    return quotas.parse(tomllib.loads(text, parse_float=Decimal))


def test_a_model_has_what_the_first_glob_says_and_else_what_is_general() -> None:
    """Kind by kind, and in the order of writing; however the model is spelt."""
    quota = read(WRITTEN)
    assert quota.spend == 12_500_000_000
    assert quota.of("gemini-3.8-flash") == {"rpm": 1000, "tpm": 4_000_000}
    assert quota.of("gemini-3-pro-image") == {"rpm": 20, "tpm": 4_000_000, "ipm": 10}
    assert quota.of("Gemini-3-PRO-image") == quota.of("gemini-3-pro-image")
    assert quota.of("gemini-3-flash") == {"rpm": 1000, "tpm": 4_000_000, "rpd": 5}


def test_nothing_is_limited_where_nothing_is_written() -> None:
    """And 0, of which nothing may be taken, is no such thing."""
    assert not NO_QUOTA
    assert read("") == NO_QUOTA
    for text in ("rpm = 0", "usd_per_10min = 0", "'gemini-*' = {ipm = 0}"):
        assert read(text)


def test_it_is_written_as_it_was_read() -> None:
    """`config show` prints what can be kept as the file."""
    quota = read(WRITTEN)
    assert quotas.parse(tomllib.loads(f"limits = {quota}", parse_float=Decimal)["limits"]) == quota
    assert str(NO_QUOTA) == "{}"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"rmp": 5}, "rmp is no kind of an upstream's limits .*: did you mean rpm?"),
        ({"concurrency": 5}, "upstreams.max_connections"),
        ({"usd": 5}, "write usd_per_10min"),
        ({"rpm": -1}, "rpm must be a whole number from 0 to 1000000000000"),
        ({"rpm": 10**12 + 1}, "rpm must be"),
        ({"rpm": "60"}, "rpm must be"),
        ({"rpm": True}, "rpm must be"),
        ({"rpm": Decimal("1.5")}, "rpm must be"),
        ({"rpm": {"value": 5}}, "rpm must be"),
        ({"usd_per_10min": Decimal("-1")}, "usd_per_10min must be USD from 0 to 9000000"),
        ({"usd_per_10min": Decimal("0.0000000001")}, "at most nine decimals"),
        ({"usd_per_10min": Decimal("nan")}, "usd_per_10min must be USD"),
        ({"usd_per_10min": Decimal("inf")}, "usd_per_10min must be USD"),
        ({"usd_per_10min": 1.5}, "usd_per_10min must be USD"),
        ({"usd_per_10min": False}, "usd_per_10min must be USD"),
        ({"usd_per_10min": 9_000_001}, "usd_per_10min must be USD"),
        ({"gemini-*": {"usd_per_10min": 5}}, "is over all models: write it beside the globs"),
        ({"gemini-*": {"rpm": -1}}, "'gemini-\\*'.rpm must be"),
        ({"gemini-*": {"x": {"rpm": 1}}}, "'gemini-\\*'.x is no kind"),
        ({"gemini-*": {}}, "'gemini-\\*' limits nothing"),
        ({"models/gemini-*": {"rpm": 1}}, "write it without models/"),
        ({"a b": {"rpm": 1}}, "no glob of such"),
        ({f"m{number}": {"rpm": 1} for number in range(101)}, "101 globs are too many"),
        ("rpm=60", "limits is a table"),
        ([{"rpm": 60}], "limits is a table"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(written: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quotas.parse(written)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"rpm must be .*; rpx is no kind .*; usd_per_10min must be"):
        quotas.parse({"rpm": -1, "rpx": 2, "usd_per_10min": "much"})
