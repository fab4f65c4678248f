"""The algorithm: never over in any minute, all or nothing, true waits, and what becomes of it when a clock is set."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.limits.algorithm import DAY_MS, LEASE_MS, SWEPT_AT_ONCE, State, Window
from proxy.limits.interface import CANCELLED, GRANTED, Hold, Over
from tests.limits.demand import DAY, counter, in_any_minute, one

NOON = 1_795_262_400_000
"""Some moment, in milliseconds; whole as a second."""


def granted(state: State, now_ms: int, lease_id: str, holds: list[Hold], day: str = DAY) -> bool:
    return state.reserve(now_ms, lease_id, day, holds).granted


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_never_over_in_any_minute_and_a_steady_demand_gets_nearly_all_of_it(limit: int, seed: int) -> None:
    """Ten minutes at several times the limit: no 60 s hold more than it, and at least 95 % of it is granted."""
    state, draw = State(), random.Random(seed)
    now, taken = NOON, []
    while now < NOON + 600_000:
        if granted(state, now, f"call {now}", one("rpm", limit)):
            taken.append((now, 1))
        now += draw.randrange(1, 2 + 2_000 // limit)
    assert in_any_minute(taken) <= limit
    assert len(taken) >= 0.95 * limit * 10


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(0, 2**32))
def test_never_over_in_any_ten_minutes_of_spending(usd: int, seed: int) -> None:
    """An hour at several times the limit: no 600 s hold more than it, and at least 95 % of it is spent."""
    state, draw, limit = State(), random.Random(seed), usd * 10**9
    now, taken = NOON, []
    while now < NOON + 3_600_000:
        nanos = draw.randrange(1, limit // 20)
        if granted(state, now, f"call {now}", one("usd_per_10min", limit, nanos)):
            taken.append((now, nanos))
        now += draw.randrange(1, 8_000)
    assert in_any_minute(taken, 600_000) <= limit
    assert sum(nanos for _, nanos in taken) >= 0.95 * limit * 6


def test_spending_slides_in_buckets_of_ten_seconds() -> None:
    """It counts for 600 to 610 s; what was missed of it from the settle on, what was too much is given back."""
    state, spending = State(), counter("usd_per_10min", 10)
    assert granted(state, NOON + 9_999, "call", one("usd_per_10min", 10, 9))
    [over] = state.reserve(NOON + 20_000, "other", DAY, one("usd_per_10min", 10, 2)).refused
    assert over.wait_ms == 590_000
    state.settle(NOON + 300_000, "call", {"usd_per_10min": 4})
    assert granted(state, NOON + 300_000, "other", one("usd_per_10min", 10, 2))
    state.settle(NOON + 305_000, "other", {"usd_per_10min": 5})
    assert state.windows[spending.name].buckets == {NOON // 10_000: 4, NOON // 10_000 + 30: 5}
    used = [state.used(NOON + at, DAY, spending) for at in (609_999, 610_000, 909_999, 910_000)]
    assert used == [9, 5, 5, 0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 12)), max_size=40), st.integers(1, 12))
def test_whoever_waits_as_told_gets_in(calls: list[tuple[int, int]], amount: int) -> None:
    """A refused call that comes back after its wait is let in; a millisecond earlier it isn't."""
    state, now = State(), NOON
    for pause, size in calls:
        now += pause
        state.reserve(now, f"call {now} {size}", DAY, one("tpm", 12, size))
    verdict = state.reserve(now, "mine", DAY, one("tpm", 12, amount))
    if not verdict.granted:
        wait = verdict.refused[0].wait_ms
        assert wait is not None
        assert 0 < wait <= 61_000
        assert not granted(state, now + wait - 1, "mine", one("tpm", 12, amount))
        assert granted(state, now + wait, "mine", one("tpm", 12, amount))


def test_a_call_is_held_against_all_its_limits_and_takes_all_or_nothing() -> None:
    """A refusal by one limit takes nothing of the others, and names all that it didn't fit in."""
    state = State()
    rpm, tpm, rpd, own = counter("rpm", 10), counter("tpm", 100), counter("rpd", 10), counter("rpm", 1, key_id="key_1")
    holds = [Hold(rpm, 1), Hold(tpm, 60), Hold(rpd, 1), Hold(own, 1)]
    assert granted(state, NOON, "first", holds)
    verdict = state.reserve(NOON, "second", DAY, holds)
    assert [over.counter for over in verdict.refused] == [tpm, own]
    assert [state.used(NOON, DAY, one) for one in (rpm, tpm, rpd, own)] == [1, 60, 1, 1]


def test_what_is_larger_than_the_limit_has_no_wait() -> None:
    """Coming back would not help; and it drains nothing."""
    state = State()
    assert state.reserve(NOON, "huge", DAY, one("tpm", 100, 101)).refused == (Over(counter("tpm", 100), 0, 101, None),)
    assert granted(state, NOON, "fits", one("tpm", 100, 100))


def test_nothing_fits_always() -> None:
    """A call that takes nothing of a limit that is exceeded is let in."""
    state = State()
    assert granted(state, NOON, "first", one("ipm", 1, 1))
    assert granted(state, NOON, "text", one("ipm", 1, 0))


def test_a_shadow_limit_is_counted_and_refuses_nobody() -> None:
    """The verdict says what it would have refused."""
    state, shadow = State(), counter("rpm", 1, shadow=True)
    assert state.reserve(NOON, "first", DAY, [Hold(shadow, 1)]) == GRANTED
    verdict = state.reserve(NOON, "second", DAY, [Hold(shadow, 1)])
    assert verdict.granted
    assert [over.counter for over in verdict.shadowed] == [shadow]
    assert state.used(NOON, DAY, shadow) == 2


def test_an_id_is_charged_once() -> None:
    """Reserved again, it gets the same answer; settled again, nothing happens."""
    state, tpm = State(), counter("tpm", 100)
    for _ in range(2):
        assert granted(state, NOON, "call", one("tpm", 100, 60))
    assert state.used(NOON, DAY, tpm) == 60
    for _ in range(2):
        state.settle(NOON, "call", {"tpm": 20})
    assert state.used(NOON, DAY, tpm) == 20


def test_a_cancel_gives_all_back_and_stops_a_reserve_that_comes_late() -> None:
    """Also of the day, and of a reserve that was overtaken by its cancel."""
    state = State()
    holds = [Hold(counter(kind, 10), 1) for kind in ("rpm", "tpm", "rpd", "ipm", "concurrency")]
    assert granted(state, NOON, "call", holds)
    state.cancel(NOON + 3000, "call")
    assert [state.used(NOON + 3000, DAY, hold.counter) for hold in holds] == [0] * 5
    state.cancel(NOON, "late")
    assert state.reserve(NOON, "late", DAY, holds) is CANCELLED
    assert [state.used(NOON, DAY, hold.counter) for hold in holds] == [0] * 5


def test_what_an_estimate_missed_counts_from_the_settle_on() -> None:
    """And what it overstated is given back where it was taken."""
    state, ipm = State(), counter("ipm", 10)
    assert granted(state, NOON, "more", one("ipm", 10, 1))
    assert granted(state, NOON, "less", one("ipm", 10, 4))
    state.settle(NOON + 30_000, "more", {"ipm": 3})
    state.settle(NOON + 30_000, "less", {"ipm": 0})
    assert state.windows[ipm.name].buckets == {NOON // 1000: 1, NOON // 1000 + 30: 2}
    assert state.used(NOON + 61_000, DAY, ipm) == 2
    assert state.used(NOON + 91_000, DAY, ipm) == 0


def test_what_is_given_back_late_is_given_back_to_nobody() -> None:
    """After its minute a call doesn't count any more: there is nothing to give back."""
    state, tpm = State(), counter("tpm", 100)
    assert granted(state, NOON, "long", one("tpm", 100, 50))
    assert granted(state, NOON + 61_000, "other", one("tpm", 100, 50))
    state.settle(NOON + 61_000, "long", {"tpm": 0})
    assert state.used(NOON + 61_000, DAY, tpm) == 50


def test_concurrency_is_free_when_a_lease_ends_and_a_minute_after_nobody_renewed_it() -> None:
    """A renewal puts back what had lapsed: the call is still there."""
    state, limit = State(), counter("concurrency", 2)
    assert granted(state, NOON, "a", one("concurrency", 2))
    assert granted(state, NOON, "b", one("concurrency", 2))
    assert not granted(state, NOON, "c", one("concurrency", 2))
    state.settle(NOON, "a", {})
    assert granted(state, NOON, "c", one("concurrency", 2))
    state.renew(NOON + LEASE_MS - 1, ["b"])
    assert state.used(NOON + LEASE_MS, DAY, limit) == 1
    state.renew(NOON + LEASE_MS, ["c", "gone"])
    assert state.used(NOON + LEASE_MS, DAY, limit) == 2


def test_a_day_counts_under_its_name() -> None:
    """A new day begins at nothing; a cancel goes to the day of its reserve."""
    state, rpd = State(), counter("rpd", 1)
    assert granted(state, NOON, "monday", one("rpd", 1), day="monday")
    assert not granted(state, NOON, "again", one("rpd", 1), day="monday")
    assert granted(state, NOON, "tuesday", one("rpd", 1), day="tuesday")
    state.cancel(NOON, "monday")
    assert [state.used(NOON, day, rpd) for day in ("monday", "tuesday")] == [0, 1]


def test_a_clock_that_is_set_back_frees_nothing_and_locks_out_nobody() -> None:
    """What was taken counts for one more minute at most, and a place for one more minute."""
    state = State()
    holds = [Hold(counter("rpm", 1), 1), Hold(counter("concurrency", 1), 1)]
    assert granted(state, NOON, "call", holds)
    back = NOON - 3_600_000
    assert not granted(state, back, "other", holds)
    assert granted(state, back + 61_000, "other", holds)


def test_what_does_not_count_any_more_is_forgotten() -> None:
    """A sweep leaves nothing of calls that ended, however many counters they had."""
    state = State()
    for at in range(100):
        holds = [Hold(counter(kind, 10, project=f"p{at}"), 1) for kind in ("rpm", "rpd", "concurrency")]
        assert granted(state, NOON, f"call {at}", holds)
        state.settle(NOON, f"call {at}", {})
    state.cancel(NOON, "never reserved")
    deque(state.sweep(lambda: NOON + DAY_MS), 0)
    assert (state.windows, state.days, state.open, state.leases, state.cancelled) == ({}, {}, {}, {}, {})


def test_a_sweep_gives_others_their_turn_and_goes_by_the_clock_as_it_is_then() -> None:
    """What is taken while it goes on is neither forgotten nor taken for the doing of a clock that was set back."""
    state, now = State(), [NOON]
    for at in range(3 * SWEPT_AT_ONCE):
        granted(state, NOON, f"call {at}", [Hold(counter("rpm", 10, project=f"p{at}"), 1)])
    late = counter("rpm", 10, project=f"p{3 * SWEPT_AT_ONCE - 1}")
    turns = 0
    for _ in state.sweep(lambda: now[0]):
        turns += 1
        if turns == 1:
            now[0] += 5_000
            granted(state, now[0], "late", [Hold(late, 1)])
    assert turns >= 3
    assert state.windows[late.name].buckets == {NOON // 1000: 1, NOON // 1000 + 5: 1}


def test_a_window_has_no_wait_for_more_than_it_holds() -> None:
    with pytest.raises(ValueError, match="no wait"):
        Window({}).wait_ms(NOON, 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 10), st.integers(0, 2**32))
def test_ten_minutes_of_random_load_are_never_over(rpm: int, places: int, seed: int) -> None:
    """Calls of all lengths, some of which are cancelled, some of whose holders die: neither limit is ever exceeded."""
    state, draw = State(), random.Random(seed)
    holds = [Hold(counter("rpm", rpm), 1), Hold(counter("concurrency", places), 1)]
    now, taken, ends = NOON, [], dict[str, int]()
    while now < NOON + 600_000:
        now += draw.randrange(1, 4_000 // rpm)
        for lease_id in [lease_id for lease_id, at in ends.items() if at <= now]:
            del ends[lease_id]
            if draw.random() < 0.9:  # else its process has died, and only time frees its place
                state.settle(now, lease_id, {})
        lease_id = f"call {now}"
        if granted(state, now, lease_id, holds):
            if draw.random() < 0.1:
                state.cancel(now, lease_id)
                continue
            taken.append((now, 1))
            ends[lease_id] = now + draw.randrange(1, 59_000)
        assert len(ends) <= places
    assert in_any_minute(taken) <= rpm
