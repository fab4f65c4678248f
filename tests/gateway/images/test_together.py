"""Calls side by side in few places: all are served, none waits for what won't pass, and a client that left ends all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.errors import CallerErred, ProxyRefused, RateLimited, Reason, Refusal, Violation
from proxy.gateway.images import together
from proxy.gateway.images.together import Seats, SideBySide
from proxy.gateway.intake import ClientGone

pytestmark = pytest.mark.anyio


def limited(*metrics: str, reason: Reason = Reason.RATE_LIMITED) -> RateLimited:
    return RateLimited("Full.", tuple(Violation(metric, "", {}, 1) for metric in metrics), 1000, reason)


FULL = limited("weighbridge/concurrency")
HELD = limited("weighbridge/budget", reason=Reason.BUDGET_HELD)
OTHERS = [
    limited("weighbridge/requests"),
    limited("weighbridge/concurrency", "weighbridge/requests"),
    limited("weighbridge/budget", reason=Reason.BUDGET_EXCEEDED),
    ProxyRefused(Reason.DRAINING, "Draining."),
    CallerErred(Reason.BAD_REQUEST, "Wrong."),
]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PAUSE_S", 0)


class Places:
    """Serves as many at once as there are places, and says of each what it asked."""

    def __init__(self, places: int, full: Refusal = FULL) -> None:
        self.places = places
        self.asked: list[int] = []
        self.results: dict[int, int | Refusal] = {}
        self._full = full
        self._inside = 0

    async def one(self, number: int) -> int:
        self.asked.append(number)
        await asyncio.sleep(0)
        if self._inside >= self.places:
            raise self._full
        self._inside += 1
        for _ in range(1 + number % 3):
            await asyncio.sleep(0)
        # A place given back is news only a little later, as from another process.
        asyncio.get_running_loop().call_soon(self._leave)
        return number * 10

    def _leave(self) -> None:
        self._inside -= 1

    async def ended(self, number: int, result: int | Refusal) -> None:
        assert number not in self.results
        self.results[number] = result

    async def run(self, times: int) -> dict[int, int | Refusal]:
        await asyncio.wait_for(SideBySide(self.one, self.ended).run(times), 30)
        return self.results


@pytest.mark.parametrize("full", [FULL, HELD])
@pytest.mark.parametrize("places", [1, 2, 3, 9, 10])
async def test_with_few_places_all_are_served_in_them(places: int, full: Refusal) -> None:
    stand = Places(places, full)
    assert await stand.run(10) == {number: number * 10 for number in range(10)}
    assert len(stand.asked) <= 10 * together.TRIES + 10
    if places == 10:
        assert stand.asked == list(range(10))


async def test_one_that_finds_no_place_asks_again_when_another_has_ended_and_not_before() -> None:
    release, asked = asyncio.Event(), []

    async def one(number: int) -> int:
        asked.append(number)
        if number == 0:
            await release.wait()
        elif not release.is_set():
            raise FULL
        return number

    ends: list[int] = []

    async def ended(number: int, result: int | Refusal) -> None:
        ends.append(number)
        assert result == number

    running = asyncio.get_running_loop().create_task(SideBySide(one, ended).run(4))
    for _ in range(50):
        await asyncio.sleep(0)
    assert asked == [0, 1, 2, 3]
    release.set()
    await asyncio.wait_for(running, 30)
    assert asked == [0, 1, 2, 3, 1, 2, 3]
    assert ends == [0, 1, 2, 3]


async def test_where_no_place_ever_was_each_is_refused_at_once() -> None:
    stand = Places(0)
    assert await stand.run(3) == dict.fromkeys(range(3), FULL)
    assert len(stand.asked) <= 2 * 3


async def test_a_place_whose_return_is_not_yet_known_is_asked_for_a_few_times() -> None:
    served = 0

    async def one(number: int) -> int:
        nonlocal served
        if number:
            served += 1
            raise FULL
        return number

    results: dict[int, Any] = {}

    async def ended(number: int, result: int | Refusal) -> None:
        results[number] = result

    await asyncio.wait_for(SideBySide(one, ended).run(2), 30)
    assert results == {0: 0, 1: FULL}
    assert together.TRIES <= served <= together.TRIES + 1


@pytest.mark.parametrize("other", OTHERS, ids=lambda refusal: refusal.reason.word)
async def test_refusals_of_other_kinds_wait_for_nobody(other: Refusal) -> None:
    released = asyncio.Event()
    results: dict[int, Any] = {}

    async def one(number: int) -> int:
        if number:
            raise other
        await released.wait()
        return number

    async def ended(number: int, result: int | Refusal) -> None:
        results[number] = result
        if len(results) == 2:
            released.set()

    await asyncio.wait_for(SideBySide(one, ended).run(3), 30)
    assert results == {0: 0, 1: other, 2: other}


async def test_one_refused_leaves_its_turn_to_one_that_waits() -> None:
    """The one that runs last is refused for good: those that waited for it are served."""
    turns: dict[int, list[Any]] = {0: [CallerErred(Reason.BAD_REQUEST, "Wrong.")], 1: [FULL, 1], 2: [FULL, 2]}
    results: dict[int, Any] = {}

    async def one(number: int) -> int:
        if number == 0:
            await asyncio.sleep(0)
        outcome = turns[number].pop(0)
        if isinstance(outcome, Refusal):
            raise outcome
        return int(outcome)

    async def ended(number: int, result: int | Refusal) -> None:
        results[number] = result

    await asyncio.wait_for(SideBySide(one, ended).run(3), 30)
    assert isinstance(results.pop(0), CallerErred)
    assert results == {1: 1, 2: 2}


async def test_a_client_that_left_ends_none_that_has_gone_up() -> None:
    """One that finds its client gone before it went up just ends: cancelled with it, the others' cost would be lost."""
    left = asyncio.Event()
    results: dict[int, int | Refusal] = {}

    async def one(number: int) -> int:
        if number == 1:
            asyncio.get_running_loop().call_soon(left.set)
            raise ClientGone
        await left.wait()
        return number

    async def ended(number: int, result: int | Refusal) -> None:
        results[number] = result

    await asyncio.wait_for(SideBySide(one, ended).run(4), 30)
    assert results == {0: 0, 2: 2, 3: 3}


def test_each_seat_is_told_when_the_client_leaves() -> None:
    connection: Any = SimpleNamespace(gone=False, request_id="r-1", when_gone=None)
    seats = Seats(connection)
    told: list[int] = []
    first, second, third = (seats.take() for _ in range(3))
    first.when_gone, third.when_gone = (lambda: told.append(1)), (lambda: told.append(3))
    assert [seat.request_id for seat in (first, second, third)] == ["r-1"] * 3
    assert not second.gone
    connection.gone = True
    connection.when_gone()
    assert second.gone
    assert told == [1, 3]
