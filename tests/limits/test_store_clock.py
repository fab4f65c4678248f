"""The store's clock as this process knows it: ahead of its own, never running back, unless it was set."""

from __future__ import annotations

from proxy.limits.store_clock import StoreClock


def test_it_goes_on_from_what_the_store_said() -> None:
    own = [1_000_000]
    clock = StoreClock(lambda: own[0])
    assert clock() == 1_000_000
    assert clock.heard(1_700_000) == 1_700_000
    own[0] += 500
    assert clock() == 1_700_500


def test_a_slow_answer_does_not_turn_it_back() -> None:
    """What was said 80 ms ago is less than what is known: time stands until it has caught up."""
    own = [1_000_000]
    clock = StoreClock(lambda: own[0])
    clock.heard(1_000_000)
    own[0] += 100
    assert clock() == 1_000_100
    assert clock.heard(1_000_020) == 1_000_100
    own[0] += 79
    assert clock() == 1_000_100
    own[0] += 2
    assert clock() == 1_000_101


def test_a_clock_that_was_set_back_is_followed() -> None:
    own = [1_000_000]
    clock = StoreClock(lambda: own[0])
    clock.heard(5_000_000)
    assert clock.heard(4_000_000) == 4_000_000
