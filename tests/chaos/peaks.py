"""How near to its limits everybody came, by what went up: for each kind of limit the most that was ever taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.chaos.tenants import Bound
from tests.chaos.upstream import Upstream

MINUTE_S = 60.0


@dataclass(frozen=True)
class Taken:
    """What one call took that went up. It was let in after it was `sent` and before it `arrived`."""

    key: str
    sent: float
    arrived: float
    epoch: int
    """Minutes begin anew where a server starts whose clock was set on: it can't know that no time has passed."""
    tokens: int
    missed_tokens: int
    """By how much the estimate was too low: so much may be over, while the call is under way."""
    images: int
    missed_images: int
    period: str


def _in_a_minute(
    taken: Sequence[Taken], amount: Callable[[Taken], int], missed: Callable[[Taken], int], most: int
) -> int:
    """The most of any 60 seconds in which calls were surely let in, less what the estimates of `most` calls missed."""
    found = 0
    for epoch in {one.epoch for one in taken}:
        calls = sorted((one for one in taken if one.epoch == epoch), key=lambda one: one.sent)
        for at, first in enumerate(calls):
            within = []
            for one in calls[at:]:
                if one.sent >= first.sent + MINUTE_S:
                    break
                if one.arrived < first.sent + MINUTE_S:
                    within.append(one)
            excess = sum(sorted(map(missed, within))[-most:]) if most else 0
            found = max(found, sum(map(amount, within)) - excess)
    return found


def _tokens(mine: Sequence[Taken], at_once: int) -> int:
    return _in_a_minute(mine, lambda one: one.tokens, lambda one: one.missed_tokens, at_once)


def _images(mine: Sequence[Taken], at_once: int) -> int:
    return _in_a_minute(mine, lambda one: one.images, lambda one: one.missed_images, at_once)


PEAKS: dict[str, Callable[[Sequence[Taken], int], int]] = {
    "rpm": lambda mine, at_once: _in_a_minute(mine, lambda one: 1, lambda one: 0, 0),
    "tpm": _tokens,
    "ipm": _images,
    "rpd": lambda mine, at_once: max(Counter(one.period for one in mine).values(), default=0),
}
"""What was taken at the most, by kind of limit. `at_once`: how many calls may be under way. A new kind is one row."""


def peak(bound: Bound, taken: Iterable[Taken], upstream: Upstream, at_once: int) -> int:
    """What was taken of a limit at the most; for tokens and images without what the estimates missed."""
    if bound.kind == "concurrency":
        return upstream.most_open[bound.key or bound.project]
    return PEAKS[bound.kind]([one for one in taken if bound.concerns(one.key)], at_once)
