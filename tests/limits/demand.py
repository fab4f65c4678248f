"""What the tests of limits ask for: counters, holds, and random demand."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.limits.interface import Counter, Hold, Taken

DAY = "2026-11-21"


def counter(kind: str, value: int, *, project: str = "alice", key_id: str = "", shadow: bool = False) -> Counter:
    name = ":".join(part for part in (f"{{{project}}}", key_id, kind, "*:shadow" if shadow else "") if part)
    return Counter(name, kind, value, project, key_id, shadow=shadow)


def one(kind: str, value: int, amount: int = 1) -> list[Hold]:
    """A call that only one limit applies to."""
    return [Hold(counter(kind, value), amount)]


def amounts(taken: Iterable[Taken]) -> list[int]:
    """What a limiter says is used of each."""
    return [one.used for one in taken]


def in_any_minute(taken: list[tuple[int, int]], ms: int = 60_000) -> int:
    """The most that was taken in any 60 s, or so many ms. `taken`: milliseconds and amounts, in order of time."""
    most = window = first = 0
    for at, amount in taken:
        window += amount
        while taken[first][0] <= at - ms:
            window -= taken[first][1]
            first += 1
        most = max(most, window)
    return most
