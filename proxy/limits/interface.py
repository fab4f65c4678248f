"""What a limiter is: its docstring is the contract that every adapter keeps, and tests/contracts holds them to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from proxy.config.globs import matcher
from proxy.config.limits import Limit

WINDOWS = {"rpm": 60, "tpm": 60, "ipm": 60, "usd_per_10min": 600}
"""Kinds that count over a sliding window, and its length in seconds. `rpd` counts over a calendar day, `concurrency`
what is open, `usd` money."""
BUCKETS = 60
"""In steps of which a window slides: of a minute they are seconds, of ten minutes ten seconds each."""
CORRECTED = frozenset(("tpm", "ipm", "usd_per_10min"))
"""Kinds whose amounts are estimates until the call is settled. What a budget counts is held until then, then spent."""


def of_upstream(name: str) -> str:
    """In place of the project, in the counters of an upstream's own quota: a name that no project can have."""
    return f"@{name}"


def period(per: str, day: str) -> str:
    """The period of a budget that a day lies in: "2026-11-21", "2026-11" or "total"."""
    return day if per == "day" else day[:7] if per == "month" else per


@dataclass(frozen=True, slots=True)
class Counter:
    """What a limit counts in, and the limit's value. Its `name` is the same for all who count the same.

    The value is no part of the name: a limit that is changed goes on counting from where it stood.
    """

    name: str
    """Such as "{alice}:rpm", "{alice}:key_3fK9:ipm:*-image*", "{alice}:rpm:*:shadow", "{alice}:usd:month". What is in
    braces is the project: Redis Cluster keeps all names with the same braces on one node."""
    kind: str
    """One of config/limits.py's KINDS, or of config/quotas.py's."""
    value: int
    """Of money (`usd`, `usd_per_10min`), nano-dollars."""
    project: str
    key_id: str = ""
    """Empty where the whole project counts in it."""
    model: str = "*"
    """A glob of model ids: those that it matches count together."""
    shadow: bool = False
    """Counted, and never a reason to refuse."""
    per: str = ""
    """Of a budget, one of config/limits.py's PERIODS."""

    def counts(self, key_id: str, model: str) -> bool:
        """Whether a call of its project, by that key and of that model, counts in it."""
        return self.key_id in ("", key_id) and self.applies(model)

    def applies(self, model: str) -> bool:
        """Whether calls of a model (its id, without "models/") count in it, however it is spelt: nobody knows whether
        Google tells capitals from small letters."""
        return self.model == "*" or matcher(self.model, any_case=True)(model) is not None


def counters(project: str, key_id: str, of_project: Iterable[Limit], of_key: Iterable[Limit]) -> tuple[Counter, ...]:
    """The counters of a project's limits and of those that one of its keys has within them."""
    return (
        *(_counter(limit, project, "") for limit in of_project),
        *(_counter(limit, project, key_id) for limit in of_key),
    )


def _counter(limit: Limit, project: str, key_id: str) -> Counter:
    parts = [f"{{{project}}}", key_id, limit.kind, limit.model if limit.shadow or limit.model != "*" else ""]
    name = ":".join(part for part in (*parts, "shadow" if limit.shadow else "", limit.per) if part)
    return Counter(name, limit.kind, limit.value, project, key_id, limit.model, limit.shadow, limit.per)


class Hold(NamedTuple):
    """What one call takes of one counter. Nothing (0) is taken of it always: what it takes may show afterwards."""

    counter: Counter
    amount: int


class Over(NamedTuple):
    """A counter that a call doesn't fit in.

    `wait_ms` is the true wait: whoever comes back after it is let in, unless others were first. None where no wait is
    known: `concurrency`; `rpd`, whose day the caller knows; money; and an amount that is larger than the limit.
    """

    counter: Counter
    used: int
    amount: int
    wait_ms: int | None
    held: int = 0
    """Of money, how much of what is used is only held for calls in flight: the rest is spent."""


class Taken(NamedTuple):
    """What is taken of a counter."""

    used: int
    held: int = 0
    """Of money, how much of it is held for calls in flight."""


class Spent(NamedTuple):
    """What a call cost, or what a correction adds to the bill: nano-dollars, on which day, and by whom."""

    project: str
    key_id: str
    model: str
    day: str
    usd: int

    def on(self, counter: Counter) -> bool:
        """Whether it counts in a budget, of whatever period."""
        return counter.project == self.project and counter.counts(self.key_id, self.model)


class Verdict(NamedTuple):
    """What became of a reserve: granted, or what refused it; and which shadow limits would have."""

    granted: bool
    refused: tuple[Over, ...] = ()
    shadowed: tuple[Over, ...] = ()

    @classmethod
    def of(cls, over: Iterable[Over]) -> Verdict:
        """By all counters that the call doesn't fit in: those that aren't shadow refuse it."""
        over = tuple(over)
        refused = tuple(one for one in over if not one.counter.shadow)
        return cls(not refused, refused, tuple(one for one in over if one.counter.shadow))


GRANTED = Verdict(True)
CANCELLED = Verdict(False)
"""The lease was cancelled before its reserve arrived: whoever sent it has given up."""


class Limiter(Protocol):
    """Counts what calls take, so that no limit is ever exceeded, however many ask at once.

    - A reserve is checked against all its holds at once, and takes all or nothing.
    - `rpm`, `tpm` and `ipm` count over any 60 seconds by the store's clock, in buckets of a second, of which the oldest
      counts whole: what is taken counts for 60 to 61 seconds. If that clock is set back, all counts from then on anew.
    - `usd_per_10min` counts likewise over any 600 seconds, in buckets of ten: what is taken counts for 600 to 610.
    - `rpd` counts under the name of the day, which the caller chooses.
    - `concurrency` counts leases until they are settled; those of a process that died, for a minute at most.
    - `usd` counts, for each of its calendar periods, what is held for open leases, and all that was spent: also before
      there was such a budget, and by calls for which nothing was held.
    - A lease's id is chosen by the caller: reserved again, it is granted again and takes nothing more. A settle or
      cancel of a lease that isn't there does nothing; a cancel that overtakes its reserve has it refused.
    """

    async def reserve(self, lease_id: str, day: str, holds: Sequence[Hold]) -> Verdict:
        """Takes all of a call's holds (of one project), or none. When it raises, nothing stays taken.

        Raises ProxyRefused LIMITER_UNAVAILABLE.
        """
        ...

    def over(self, day: str, holds: Sequence[Hold]) -> tuple[Over, ...]:
        """Which of them are known, without asking anybody, to refuse a reserve now. None known says nothing."""
        ...

    def settle(self, lease_id: str, actual: Mapping[str, int], spent: Spent | None = None) -> None:
        """Ends a lease, and corrects by kind (those in CORRECTED) what was held by estimate. Returns at once.

        What was missed is counted from now on; what was too much is given back if it still counts. What a call spent
        is told here, once, and counts also where it has no lease.
        """
        ...

    def cancel(self, lease_id: str) -> None:
        """Ends a lease of which nothing was sent, and gives all of it back. Returns at once."""
        ...

    @property
    def counted_in(self) -> Literal["memory", "redis", "memory while redis is away"]:
        """Where it counts now."""
        ...

    async def used(self, day: str, counters: Sequence[Counter]) -> list[Taken]:
        """What is taken of each counter (of one project) now. Raises ProxyRefused LIMITER_UNAVAILABLE."""
        ...

    async def watch(self) -> None:
        """Keeps this process's open leases alive, for ever: runs beside the servers."""
        ...

    async def close(self) -> None:
        """Delivers what is still to be said, and lets everything go."""
        ...
