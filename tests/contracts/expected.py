"""What ledger and counters must say: worked out by hand from what was done, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.limits.algorithm import SPAN
from proxy.limits.interface import BUCKETS, WINDOWS, Counter, period
from proxy.tenants.keys import Tenant

S = 1_000_000


@dataclass
class Made:
    """A call as whoever makes it knows it. `weighs`: what it takes by kind, by estimate until more is known."""

    record_id: str
    tenant: Tenant
    model: str
    started_us: int
    day: str
    weighs: dict[str, int]
    second: int
    cost: int | None
    """Nano-dollars, by estimate until more is known: what a budget counts."""
    outcome: str | None = None
    """None while it is open: its lease stands."""
    counted: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """What it took of the minutes: amounts, and the second of each by the store's clock."""
    in_ledger: dict[str, list[tuple[int, int]]] | None = None
    """The same as the ledger tells it, to a process that came later."""
    uncounted: bool = False
    """Its process died before it could take of the upstream's quota; the ledger knows nothing of that."""

    def __post_init__(self) -> None:
        self.counted = {kind: [(self.second, self.weighs.get(kind, 0))] for kind in WINDOWS}

    def ends(self, outcome: str, second: int, taken: dict[str, int]) -> None:
        """Estimates are corrected: what was too much at the second that it was taken in, what was missed now."""
        self.outcome = outcome
        for kind, amount in taken.items():
            if kind not in WINDOWS:
                continue
            difference = amount - self.weighs.get(kind, 0)
            self.counted[kind].append((self.second if difference < 0 else second, difference))
        self.weighs |= taken


class Expected:
    """What ledger and counters must say."""

    def __init__(self) -> None:
        self.calls: dict[str, Made] = {}
        """All that were let in and went up, or may have."""
        self.attempts: dict[str, Made] = {}
        """What these took of their upstream, by the same ids."""
        self.put_in: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        """What was wanting in the store, by counter, and by day: seconds and amounts."""

    @property
    def open(self) -> list[Made]:
        return [call for call in self.calls.values() if call.outcome is None]

    def records(self) -> dict[str, tuple[str, int | None]]:
        """By record id, what the ledger holds, each once: outcome and cost."""
        ended = (call for call in self.calls.values() if call.outcome is not None)
        return {call.record_id: (str(call.outcome), call.cost) for call in ended}

    def used(self, counter: Counter, day: str, second: int) -> int:
        """What is taken of a counter. By kind: what is open; the calls of a day; what the last minute took."""
        mine = [call for call in self._of(counter) if not call.uncounted]
        if counter.kind == "concurrency":
            return sum(call.outcome is None for call in mine)
        if counter.per:
            of = period(counter.per, day)
            return sum(call.weighs["usd"] for call in mine if period(counter.per, call.day) == of)
        put_in = self.put_in.get(_name(counter, day), ())
        if counter.kind == "rpd":
            return sum(call.day == day for call in mine) + sum(amount for _, amount in put_in)
        taken = [*(each for call in mine for each in call.counted[counter.kind]), *put_in]
        return sum(amount for _, amount in _within(taken, counter.kind, second))

    def _of(self, counter: Counter) -> list[Made]:
        return [
            call
            for call in (*self.calls.values(), *self.attempts.values())
            if counter.project == call.tenant.project
            and counter.key_id in ("", call.tenant.key_id)
            and counter.applies(call.model)
        ]

    def held(self, counter: Counter, day: str) -> int:
        """How much of that is money that is only held."""
        mine = (call for call in self.open if counter.applies(call.model) and call.tenant.project == counter.project)
        of = period(counter.per, day)
        return sum(
            call.weighs["usd"]
            for call in mine
            if counter.per and counter.key_id in ("", call.tenant.key_id) and period(counter.per, call.day) == of
        )

    def restarted(self, now_us: int) -> None:
        """What was open is billed as `unsettled`, by its estimate."""
        for call in (*self.calls.values(), *self.attempts.values()):
            call.outcome = call.outcome or "unsettled"
            second = min(call.started_us, now_us) // S
            recent = [kind for kind in WINDOWS if call.started_us >= now_us - SPAN * _width_s(kind) * S]
            call.in_ledger = {kind: [(second, call.weighs.get(kind, 0))] if kind in recent else [] for kind in WINDOWS}

    def put_in_what_is_wanting(self, counter: Counter, day: str, second: int) -> None:
        """A new process knows by its ledger what was taken: so much is counted in the store at least."""
        if counter.kind == "rpd":
            taken = [(second, 1) for call in self._of(counter) if call.day == day]
        else:
            taken = [each for call in self._of(counter) for each in (call.in_ledger or call.counted)[counter.kind]]
            taken = _within(taken, counter.kind, second)
        wanting = sum(amount for _, amount in taken) - self.used(counter, day, second)
        put_in = self.put_in.setdefault(_name(counter, day), [])
        for at, amount in sorted(taken, reverse=True):
            put_in.append((at, max(min(amount, wanting), 0)))
            wanting -= amount

    def counted_from_ledger(self) -> None:
        """The store was gone: of earlier processes' calls, the last minute is what the ledger says of it."""
        self.put_in.clear()
        for call in (*self.calls.values(), *self.attempts.values()):
            call.counted = call.in_ledger or call.counted
            call.uncounted = call.uncounted and call.in_ledger is None


def _width_s(kind: str) -> int:
    return WINDOWS[kind] // BUCKETS


def _within(taken: Sequence[tuple[int, int]], kind: str, second: int) -> list[tuple[int, int]]:
    width_s = _width_s(kind)
    return [(at, amount) for at, amount in taken if at // width_s > second // width_s - SPAN]


def _name(counter: Counter, day: str) -> tuple[str, ...]:
    of_day = (day,) if counter.kind == "rpd" else ()
    shadow = ("shadow",) if counter.shadow else ()
    return counter.project, counter.key_id, counter.model, counter.kind, *shadow, *of_day
