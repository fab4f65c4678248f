"""The algorithm of limits, pure: counters and leases as plain values, time handed in. Redis runs the same in Lua."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from proxy.limits.interface import (
    BUCKETS,
    CANCELLED,
    CORRECTED,
    GRANTED,
    WINDOWS,
    Counter,
    Hold,
    Over,
    Spent,
    Taken,
    Verdict,
)
from proxy.limits.money import Money, Spending

SPAN = BUCKETS + 1
"""For how many buckets' time one counts, its own included: nothing leaves before it is as old as the window is long."""
LEASE_MS = 60_000
"""How long an open lease counts against `concurrency` unless it is renewed."""
DAY_MS = 50 * 3600 * 1000
"""How long a day's count is kept after the last call: the day itself, and those who come late."""
TOMBSTONE_MS = 600_000
"""How long a cancel waits for the reserve that it overtook."""

SWEPT_AT_ONCE = 1_000
"""Counters looked at in one go: less than a millisecond."""

T = TypeVar("T")
History = Callable[[Counter, str, int], Mapping[int, int]]
"""What a counter held before this state began: amounts by second, in order of time; of `rpd` and the day named, under
the last one."""


class Window:
    """Amounts of the last minute, or ten, by bucket, the oldest first. A bucket's number is its time by its width."""

    __slots__ = ("buckets", "rolled_to", "total", "width_s")

    def __init__(self, seconds: Mapping[int, int], width_s: int = 1) -> None:
        self.width_s = width_s
        self.rolled_to: int | None = None
        self.buckets: dict[int, int] = {}
        self.total = 0
        for second, amount in seconds.items():
            self.add(second, amount)

    def roll(self, second: int) -> int:
        """Lets go of what has passed. Returns what is left."""
        buckets, now = self.buckets, second // self.width_s
        if now == self.rolled_to:
            return self.total
        self.rolled_to = now
        if buckets and next(reversed(buckets)) > now:  # the clock was set back
            self.buckets = buckets = {now: self.total}
        while buckets and (oldest := next(iter(buckets))) <= now - SPAN:
            self.total -= buckets.pop(oldest)
        return self.total

    def add(self, second: int, amount: int) -> None:
        bucket = second // self.width_s
        self.buckets[bucket] = self.buckets.get(bucket, 0) + amount
        self.total += amount

    def give_back(self, second: int, amount: int) -> None:
        """Takes an amount out of the bucket in which it was added, as far as it still counts."""
        bucket = second // self.width_s
        if bucket in self.buckets:
            given = min(amount, self.buckets[bucket])
            self.buckets[bucket] -= given
            self.total -= given

    def wait_ms(self, now_ms: int, room: int) -> int:
        """Until so much more has gone."""
        for bucket, amount in self.buckets.items():
            room -= amount
            if room <= 0:
                return (bucket + SPAN) * self.width_s * 1000 - now_ms
        raise ValueError("no wait makes room for that")


class Lease(NamedTuple):
    """An open lease: when it was granted, on which day, and what it holds."""

    second: int
    day: str
    holds: tuple[Hold, ...]


class State:
    """All that a limiter's store knows. Every method is told the time, in milliseconds of the store's clock."""

    def __init__(self, history: History = lambda counter, day, now_ms: {}, spent: Iterable[Spending] = ()) -> None:
        """`history` is asked when a counter is met of which nothing is known. `spent` is all that was, before this
        state began."""
        self.leases: dict[str, Lease] = {}
        self.windows: dict[str, Window] = {}
        self.days: dict[str, list[int]] = {}  # by name and day: the count, and when to forget it
        self.open: dict[str, dict[str, int]] = {}  # by name: leases and when they lapse, the next one first
        self.cancelled: dict[str, int] = {}  # leases, and when to forget them
        self.money = Money(spent)
        self._history = history

    def reserve(self, now_ms: int, lease_id: str, day: str, holds: Sequence[Hold]) -> Verdict:
        """Takes all holds or none; see Limiter."""
        if lease_id in self.leases:
            return GRANTED
        if self.cancelled.pop(lease_id, 0) > now_ms:
            return CANCELLED
        over = self.over(now_ms, day, holds)
        verdict = Verdict.of(over) if over else GRANTED
        if verdict.granted:
            self.charge(now_ms, lease_id, day, holds)
        return verdict

    def over(self, now_ms: int, day: str, holds: Iterable[Hold]) -> tuple[Over, ...]:
        """Those counters that a call doesn't fit in, shadow limits among them."""
        found = []
        for counter, amount in holds:
            if amount:
                used = self.used(now_ms, day, counter)
                if used + amount > counter.value:
                    wait_ms = None
                    if counter.kind in WINDOWS and amount <= counter.value:
                        wait_ms = self.windows[counter.name].wait_ms(now_ms, used + amount - counter.value)
                    held = self.money.account(counter, day).held if counter.per else 0
                    found.append(Over(counter, used, amount, wait_ms, held))
        return tuple(found)

    def charge(self, now_ms: int, lease_id: str, day: str, holds: Sequence[Hold]) -> None:
        """Takes all holds without asking whether they fit."""
        for counter, amount in holds:
            if counter.kind in WINDOWS:
                self._window(now_ms, day, counter).add(now_ms // 1000, amount)
            elif counter.kind == "rpd":
                self._add_day(now_ms, day, counter, amount)
            elif counter.per:
                self.money.account(counter, day).held += amount
            else:
                self._open(now_ms, counter.name)[lease_id] = now_ms + LEASE_MS
        self.leases[lease_id] = Lease(now_ms // 1000, day, tuple(holds))

    def settle(self, now_ms: int, lease_id: str, actual: Mapping[str, int], spent: Spent | None = None) -> None:
        """Ends a lease, corrects its estimates, and counts what was spent; see Limiter."""
        if spent is not None:
            self.money.spend(spent)
        self._end(now_ms, lease_id, lambda hold: actual.get(hold.counter.kind, hold.amount))

    def cancel(self, now_ms: int, lease_id: str) -> None:
        """Ends a lease and gives all back; see Limiter."""
        if lease_id not in self.leases:
            self.cancelled[lease_id] = now_ms + TOMBSTONE_MS
        self._end(now_ms, lease_id, lambda hold: 0)

    def renew(self, now_ms: int, lease_ids: Iterable[str]) -> None:
        """Has leases count against `concurrency` for another minute, also those that had lapsed."""
        for lease_id in lease_ids:
            for counter, _ in self.leases[lease_id].holds if lease_id in self.leases else ():
                if counter.kind == "concurrency":
                    leases = self._open(now_ms, counter.name)
                    leases.pop(lease_id, None)
                    leases[lease_id] = now_ms + LEASE_MS

    def used(self, now_ms: int, day: str, counter: Counter) -> int:
        """What is taken of a counter."""
        if counter.kind in WINDOWS:
            return self._window(now_ms, day, counter).total
        if counter.kind == "rpd":
            return self._day(now_ms, day, counter)[0]
        if counter.per:
            account = self.money.account(counter, day)
            return account.spent + account.held
        return len(self._open(now_ms, counter.name))

    def taken(self, now_ms: int, day: str, counter: Counter) -> Taken:
        """`used`, and how much of it is only held."""
        used = self.used(now_ms, day, counter)
        return Taken(used, self.money.account(counter, day).held if counter.per else 0)

    def sweep(self, clock: Callable[[], int]) -> Iterator[None]:
        """Forgets what doesn't count any more. Yields now and then, for others to have their turn: so it looks at the
        clock itself."""
        yield from _forget(self.windows, lambda _, window: not window.roll(clock() // 1000))
        yield from _forget(self.days, lambda _, count: count[1] <= clock())
        yield from _forget(self.open, lambda name, _: not self._open(clock(), name))
        yield from _forget(self.cancelled, lambda _, until: until <= clock())
        yield from self.money.sweep()

    def _end(self, now_ms: int, lease_id: str, actual: Callable[[Hold], int]) -> None:
        lease = self.leases.pop(lease_id, None)
        for hold in lease.holds if lease else ():
            counter, difference = hold.counter, actual(hold) - hold.amount
            if counter.kind == "concurrency":
                self._open(now_ms, counter.name).pop(lease_id, None)
            elif counter.per and lease:
                self.money.account(counter, lease.day).held -= hold.amount
            elif difference and lease:
                self._correct(now_ms, lease, counter, difference)

    def _correct(self, now_ms: int, lease: Lease, counter: Counter, difference: int) -> None:
        if counter.kind == "rpd":
            self._add_day(now_ms, lease.day, counter, difference)
        elif difference < 0:
            self._window(now_ms, lease.day, counter).give_back(lease.second, -difference)
        elif counter.kind in CORRECTED:
            self._window(now_ms, lease.day, counter).add(now_ms // 1000, difference)

    def _window(self, now_ms: int, day: str, counter: Counter) -> Window:
        window = self.windows.get(counter.name)
        if window is None:
            width_s = WINDOWS[counter.kind] // BUCKETS
            window = self.windows[counter.name] = Window(self._history(counter, day, now_ms), width_s)
        window.roll(now_ms // 1000)
        return window

    def _day(self, now_ms: int, day: str, counter: Counter) -> list[int]:
        name = f"{counter.name}:{day}"
        count = self.days.get(name)
        if count is None or count[1] <= now_ms:
            before = sum(self._history(counter, day, now_ms).values())
            count = self.days[name] = [before, now_ms + DAY_MS]
        return count

    def _add_day(self, now_ms: int, day: str, counter: Counter, amount: int) -> None:
        count = self._day(now_ms, day, counter)
        count[0] = max(count[0] + amount, 0)
        count[1] = now_ms + DAY_MS

    def _open(self, now_ms: int, name: str) -> dict[str, int]:
        """The leases that count. Those that end later than any can were opened before the clock was set back."""
        leases = self.open.setdefault(name, {})
        latest = now_ms + LEASE_MS
        if leases and leases[next(reversed(leases))] > latest:
            leases |= {lease_id: min(until, latest) for lease_id, until in leases.items()}
        while leases and leases[lease_id := next(iter(leases))] <= now_ms:
            del leases[lease_id]
        return leases


def _forget(held: dict[str, T], passed: Callable[[str, T], bool]) -> Iterator[None]:
    for number, name in enumerate(list(held)):
        if name in held and passed(name, held[name]):
            del held[name]
        if not number % SWEPT_AT_ONCE:
            yield
