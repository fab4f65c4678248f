"""What answers tell of how usage is counted."""

from __future__ import annotations

import pytest

from proxy.cli.doctor.assumptions import on_usage
from tests.cli.doctor.assumptions.contrary import Json, answered, labels, said, usage


@pytest.mark.parametrize(
    ("spent", "held"),
    [
        (usage(10, 5, 7), "held"),
        (usage(10, 5, 7, toolUsePromptTokenCount=3, totalTokenCount=25), "held"),
        (usage(10, 7, 7, totalTokenCount=17), "held"),  # mirrored, and in the total once
        (usage(10, 7, 7), "held"),
        (usage(10, 5, 7, totalTokenCount=15), "failed"),  # as Live counts: without thoughts
        (usage(10, 5, 7, toolUsePromptTokenCount=3), "failed"),  # tool use isn't in the total
        (usage(10, 5, 7, totalTokenCount=None), "unknown"),
        (usage(10, 0, 0), "unknown"),
    ],
)
def test_the_total_is_to_be_what_went_in_and_what_came_out(spent: Json, held: str) -> None:
    assert on_usage.output_is_rest(answered(text=said(spent)))[0] == held


def test_one_answer_against_it_outweighs_others_and_is_named() -> None:
    answers = answered(text=said(usage(10, 5, 7)), capped=said(usage(10, 5, 7, totalTokenCount=15)))
    assert on_usage.output_is_rest(answers) == (
        "failed",
        "capped: the total leaves 5 for 5 candidate and 7 thought tokens",
    )


@pytest.mark.parametrize(
    ("spent", "held"), [(usage(), "held"), (None, "failed"), (usage(0, 0), "failed"), ({"totalTokenCount": 4}, "held")]
)
def test_an_answer_without_a_usage_that_amounts_to_anything_is_against_it(spent: Json | None, held: str) -> None:
    assert on_usage.usage_is_sent(answered(text=said(spent)))[0] == held


def test_what_count_tokens_says_is_no_usage_of_a_metered_call() -> None:
    assert on_usage.usage_is_sent(answered(count_text={"totalTokens": 5}))[0] == "unknown"


@pytest.mark.parametrize(
    ("spent", "held"),
    [
        (usage(promptTokensDetails=labels(TEXT=10)), "held"),
        (usage(promptTokensDetails=labels(TEXT=4)), "held"),
        (usage(promptTokensDetails=labels(TEXT=4, IMAGE=6)), "failed"),
        (None, "unknown"),
    ],
)
def test_a_prompt_of_text_is_to_bear_no_other_label(spent: Json | None, held: str) -> None:
    assert on_usage.unlabelled_is_text(answered(text=said(spent)))[0] == held


@pytest.mark.parametrize(
    ("spent", "held"),
    [
        (usage(promptTokensDetails=labels(TEXT=10)), "held"),
        (usage(promptTokensDetails=labels(TEXT=11)), "failed"),
        (usage(10, 5, 5, candidatesTokensDetails=labels(IMAGE=10)), "held"),
        (usage(10, 5, 5, candidatesTokensDetails=labels(IMAGE=6, TEXT=5)), "failed"),
        (usage(cacheTokensDetails=labels(TEXT=1)), "failed"),
        (usage(), "unknown"),
    ],
)
def test_labels_are_to_claim_no_more_than_was_counted(spent: Json, held: str) -> None:
    assert on_usage.labels_at_most_all(answered(text=said(spent)))[0] == held


@pytest.mark.parametrize(
    ("spent", "finish", "held"),
    [
        (usage(10, 40, 24), "MAX_TOKENS", "held"),
        (usage(10, 40, 25), "MAX_TOKENS", "failed"),
        (usage(10, 40), "STOP", "unknown"),
    ],
)
def test_a_cap_is_to_bound_thinking_too(spent: Json, finish: str, held: str) -> None:
    assert on_usage.cap_bounds_output(answered(capped=said(spent, finish=finish)))[0] == held


@pytest.mark.parametrize(
    ("counts", "held"),
    [
        ([50, 100, 150, 200], "held"),  # running totals
        ([50, 50, 50, 50], "failed"),  # each its own
        ([10, 60, 90, 40], "failed"),
        ([200, 200], "held"),
        ([100, 90], "failed"),
        ([0, 0, 0, 180], "held"),  # only the last one counts anything
        ([0, 0], "unknown"),
    ],
)
def test_a_streams_last_usage_is_to_weigh_what_its_text_weighs(counts: list[int], held: str) -> None:
    """A text of 800 bytes, which is 200 tokens or so."""
    text = "x" * (800 // len(counts))
    stream = [said(usage(10, count), text) for count in counts]
    assert on_usage.last_usage_counts(answered(stream=stream))[0] == held


@pytest.mark.parametrize(
    ("spent", "held"),
    [
        (usage(), "held"),
        (usage(totalTokenCount=None), "failed"),
        (usage(totalTokenCount=9), "failed"),
        (None, "unknown"),
    ],
)
def test_a_total_is_to_be_there_and_to_cover_the_prompt(spent: Json | None, held: str) -> None:
    assert on_usage.total_is_the_sum(answered(text=said(spent)))[0] == held
