"""What answers tell of who answered, in which tier, and of searches."""

from __future__ import annotations

import pytest

from proxy.cli.doctor.assumptions import on_models
from tests.cli.doctor.assumptions.contrary import answered, said, searched, usage


@pytest.mark.parametrize(
    ("version", "held"),
    [("gemini-3.8-flash", "held"), ("gemini-9-unheard-of", "failed"), (None, "unknown")],
)
def test_who_answers_is_to_have_a_price(version: str | None, held: str) -> None:
    assert on_models.priced_as_who_answered(answered(text=said(usage(), modelVersion=version)))[0] == held


@pytest.mark.parametrize(
    ("version", "held"),
    [
        ("gemini-3.8-flash", "held"),
        ("gemini-flash-latest", "held"),  # another name of the same
        ("gemini-2.5-flash", "failed"),
        ("gemini-3.7-flash", "held"),
        (None, "unknown"),
    ],
)
def test_a_routed_name_is_to_be_answered_by_the_successor(version: str | None, held: str) -> None:
    found = on_models.auto_routed(answered(routed=said(usage(), modelVersion=version)))
    assert found[0] == ("unknown" if version == "gemini-3.7-flash" else held)


@pytest.mark.parametrize(
    ("usage_says", "header_says", "held"),
    [
        ("flex", None, "held"),
        ("FLEX", "flex", "held"),
        (None, "flex", "held"),
        (None, None, "failed"),
        ("flex", "standard", "failed"),
        ("standard", "standard", "unknown"),
    ],
)
def test_the_answer_is_to_say_the_tier_that_served(usage_says: str | None, header_says: str | None, held: str) -> None:
    headers = {"x-gemini-service-tier": header_says} if header_says else {}
    answers = answered(headers, flex=said(usage(serviceTier=usage_says)))
    assert on_models.tier_as_served(answers)[0] == held


def test_usage_and_header_that_differ_are_against_it_in_any_call() -> None:
    answers = answered({"x-gemini-service-tier": "standard"}, text=said(usage(serviceTier="priority")))
    assert on_models.tier_as_served(answers) == ("failed", "text: the usage says priority, the header standard")


@pytest.mark.parametrize(("tier", "held"), [("Priority", "held"), ("ultra", "failed"), (None, "unknown")])
def test_tiers_are_to_be_those_of_the_book(tier: str | None, held: str) -> None:
    assert on_models.unknown_tier_is_standard(answered(text=said(usage(serviceTier=tier))))[0] == held


@pytest.mark.parametrize(
    ("lists", "held"),
    [
        ([["a"], ["a", "b"]], "held"),
        ([["a", "b"]], "held"),
        ([["a"], [], ["a"]], "held"),
        ([["a"], ["b"]], "failed"),
        ([[]], "unknown"),
    ],
)
def test_later_events_are_to_repeat_the_searches_of_earlier_ones(lists: list[list[str]], held: str) -> None:
    assert on_models.searches_repeat(answered(search=[searched(*queries) for queries in lists]))[0] == held
