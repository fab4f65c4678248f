"""Random histories of calls on several limits, and what each step of one says, held against the pure algorithm."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from proxy.limits.algorithm import State
from proxy.limits.interface import Counter, Hold, Spent
from tests.contracts.stores import Stand

DAYS = ("2026-11-30", "2026-12-01")
_numbers = itertools.count()

_WHOSE = (("", "*"), ("key_a", "*"), ("key_a", "*-image"), ("key_b", "*"))
_LIMITS = {"rpm": 3, "tpm": 100, "rpd": 5, "ipm": 7, "concurrency": 2, "usd:day": 5_000, "usd:month": 9_000}
_LIMITS |= {"usd:total": 300_000_000_000_000, "usd_per_10min": 7_000}


class Step(NamedTuple):
    """One thing that happens. `lease`: which of a few, of one project or the other; `amounts`: of tpm, ipm, money."""

    what: str
    lease: int = 0
    project: int = 0
    whose: tuple[int, ...] = ()
    amounts: tuple[int, int, int] = (0, 0, 0)
    day: int = 0
    seconds: int = 0


_amounts = st.tuples(
    st.sampled_from([0, 1, 30, 60, 101]),
    st.sampled_from([0, 1, 3, 8]),
    st.sampled_from([0, 1, 999, 1_000, 2_500, 5_001, 99_999_999_999_999]),
)
_leases = st.integers(0, 5)
_which_limits = st.sampled_from([(0,), (0,), (0, 1), (0, 3), (0, 1, 2)])
_days = st.sampled_from([0, 0, 0, 1])
_seconds = st.one_of(
    st.sampled_from([1, 20, 30, 31, 40, 59, 60, 61, 62, 3600, 86_400]),
    st.sampled_from([1, 20, 30, 31, 40, 59, 60, 61, 62]),
    st.sampled_from([9, 10, 280, 300, 590, 599, 600, 609, 610, 611]),
    st.sampled_from([-1, -20, -30, -61, -310, -600, -3600, -86_400]),
)
_reserves = st.tuples(_leases, _which_limits, _amounts, _days).map(
    lambda of: Step("reserve", of[0], whose=of[1], amounts=of[2], day=of[3])
)
_spent = st.sampled_from([None, None, (0,), (0, 1), (3,)])  # by nobody, without a key's lease, by one key, by the other
_settles = st.tuples(_leases, _amounts, _spent, _days).map(
    lambda of: Step("settle", of[0], amounts=of[1], whose=of[2] or (), day=of[3])
)
_cancels = _leases.map(lambda lease: Step("cancel", lease))
_renewals = st.just(Step("renew"))
_looks = st.tuples(st.integers(0, 1), st.integers(0, 1)).map(lambda of: Step("used", project=of[0], day=of[1]))
_clock = _seconds.map(lambda seconds: Step("clock", seconds=seconds))


def histories(*, clock: bool) -> st.SearchStrategy[list[Step]]:
    """`clock`: whether the store's is set in between."""
    steps = [*[_reserves] * 6, *[_settles] * 4, _cancels, _looks, _renewals]
    return st.lists(st.one_of(*steps, *([_clock] * 5 if clock else [])), min_size=20, max_size=60)


class Replay:
    """A history on a limiter, and after each of its steps on the algorithm, at the time that the store said."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._oracle = State()
        self._number = next(_numbers)
        self._projects = [
            [_counter(f"p{self._number}-{project}", *whose, kind) for whose in _WHOSE for kind in _LIMITS]
            for project in (0, 1)
        ]

    async def run(self, history: Sequence[Step]) -> None:
        for step in history:
            await self._step(step)
        for project, day in itertools.product((0, 1), (0, 1)):
            await self._step(Step("used", project=project, day=day))

    async def _step(self, step: Step) -> None:
        limiter, lease_id = self._stand.limiter, f"{self._number}-{step.lease}"
        amounts = dict(zip(("tpm", "ipm", "usd"), step.amounts, strict=True)) | {"usd_per_10min": step.amounts[2]}
        if step.what == "clock":
            assert self._stand.store.clock is not None
            self._stand.store.clock.set(self._stand.store.clock.now_s + step.seconds)
        elif step.what == "reserve":
            of = [
                one for index, one in enumerate(self._projects[step.lease % 2]) if index // len(_LIMITS) in step.whose
            ]
            holds = [Hold(one, amounts.get(one.kind, 1)) for one in of]
            verdict = await limiter.reserve(lease_id, DAYS[step.day], holds)
            assert verdict == self._oracle.reserve(await self._stand.arrived(), lease_id, DAYS[step.day], holds)
        elif step.what == "settle":
            spent = self._spent(step) if step.whose else None
            limiter.settle(lease_id, amounts, spent)
            self._oracle.settle(await self._stand.arrived(), lease_id, amounts, spent)
        elif step.what == "cancel":
            limiter.cancel(lease_id)
            self._oracle.cancel(await self._stand.arrived(), lease_id)
        elif step.what == "renew":
            await self._stand.renew()
            now_ms = await self._stand.arrived()
            self._oracle.renew(now_ms, tuple(self._oracle.leases))
            if self._stand.redis is None:
                deque(self._oracle.sweep(lambda: now_ms), 0)  # as a watch does; the one in Redis only of its tombstones
            self._oracle.cancelled = {one: until for one, until in self._oracle.cancelled.items() if until > now_ms}
        else:
            counters = self._projects[step.project]
            used = await limiter.used(DAYS[step.day], counters)
            now_ms = await self._stand.arrived()
            assert used == [self._oracle.taken(now_ms, DAYS[step.day], one) for one in counters]

    def _spent(self, step: Step) -> Spent:
        """By a lease of that number, or by a call that had none, of a model that all or some budgets are for."""
        project, key_id = self._projects[step.lease % 2][0].project, _WHOSE[step.whose[-1]][0]
        return Spent(project, key_id, "some-image" if step.lease > 2 else "text", DAYS[step.day], step.amounts[2])


def _counter(project: str, key_id: str, model: str, limit: str) -> Counter:
    """The key's limits are a little lower than the project's, and those of one key are in shadow."""
    shadow, (kind, _, per) = key_id == "key_b", limit.partition(":")
    name = ":".join(part for part in (f"{{{project}}}", key_id, kind, model, "shadow" if shadow else "", per) if part)
    value = _LIMITS[limit] - (1 if key_id else 0)
    return Counter(name, kind, value, project, key_id, model, shadow, per)
