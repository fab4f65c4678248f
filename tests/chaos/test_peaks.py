"""A limit that was over is seen to be; a minute is any sixty seconds."""

from __future__ import annotations

from tests.chaos.peaks import PEAKS, Taken


def taken(sent: float, arrived: float = 0.0, tokens: int = 10, missed: int = 0, epoch: int = 0) -> Taken:
    return Taken("a-1", sent, max(sent, arrived), epoch, tokens, missed, 1, 0, "2026-11-21")


def test_a_minute_is_any_sixty_seconds() -> None:
    assert PEAKS["rpm"]([taken(0), taken(59.9), taken(60.1), taken(119)], 0) == 3
    assert PEAKS["rpm"]([taken(0), taken(60), taken(120)], 0) == 1


def test_only_what_was_surely_let_in_within_it_counts() -> None:
    """A call that arrived later may have been let in later; and nobody knows how much time a new clock left out."""
    assert PEAKS["rpm"]([taken(0), taken(1, arrived=61)], 0) == 1
    assert PEAKS["rpm"]([taken(0), taken(1, epoch=1)], 0) == 1


def test_tokens_may_be_over_by_what_the_estimates_of_so_many_calls_missed() -> None:
    calls = [taken(0, tokens=100, missed=90), taken(1, tokens=60, missed=50), taken(2, tokens=10)]
    assert PEAKS["tpm"](calls, 0) == 170
    assert PEAKS["tpm"](calls, 1) == 80


def test_days_are_counted_by_their_names() -> None:
    assert PEAKS["rpd"]([taken(0), taken(10_000)], 0) == 2
