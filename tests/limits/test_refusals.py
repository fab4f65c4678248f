"""Remembered refusals: who comes again at once is refused, who waited as told is not."""

from __future__ import annotations

import pytest

from proxy.limits.interface import Hold, Over
from proxy.limits.refusals import MOST, Refusals
from tests.limits.demand import DAY, counter, one


def refused(kind: str, value: int, wait_ms: int | None) -> Over:
    return Over(counter(kind, value), value, 1, wait_ms)


@pytest.mark.parametrize(
    ("kind", "wait_ms", "for_ms"), [("rpm", 800, 800), ("rpm", 40_000, 5_000), ("rpd", None, 5_000)]
)
def test_a_refusal_is_remembered_until_its_wait_has_passed_or_five_seconds(
    kind: str, wait_ms: int | None, for_ms: int
) -> None:
    """What is left of the wait is told."""
    known = Refusals()
    known.note(1_000, DAY, [refused(kind, 5, wait_ms)])
    left = None if wait_ms is None else wait_ms - for_ms + 1
    assert known.of(1_000 + for_ms - 1, DAY, one(kind, 5)) == (Over(counter(kind, 5), 5, 1, left),)
    assert known.of(1_000 + for_ms, DAY, one(kind, 5)) == ()


def test_of_what_calls_take_differently_nothing_is_remembered() -> None:
    known = Refusals()
    known.note(0, DAY, [refused(kind, 5, 800) for kind in ("tpm", "ipm", "concurrency")])
    assert known.of(1, DAY, [Hold(counter(kind, 5), 1) for kind in ("tpm", "ipm", "concurrency")]) == ()


def test_another_day_another_limit_and_another_counter_are_not_refused() -> None:
    known = Refusals()
    known.note(0, DAY, [refused("rpd", 5, None)])
    assert known.of(1, "2026-11-22", one("rpd", 5)) == ()
    assert known.of(1, DAY, [Hold(counter("rpd", 5, key_id="key_1"), 1)]) == ()
    assert known.of(1, DAY, one("rpd", 5))
    assert known.of(1, DAY, one("rpd", 6)) == ()
    assert known.of(1, DAY, one("rpd", 5)) == ()  # the limit was changed: what was known is of no use any more


def test_no_more_are_remembered_than_there_is_room_for() -> None:
    known = Refusals()
    for number in range(MOST + 1):
        known.note(0, DAY, [Over(counter("rpm", 1, key_id=f"key_{number}"), 1, 1, 800)])
    assert len(known._known) <= MOST
