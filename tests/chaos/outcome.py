"""What a run comes to: its verdict, its figures, its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.billing.records import UsageRecord, to_usd
from tests.chaos import oracle
from tests.chaos.callers import Callers
from tests.chaos.calls import VERBS
from tests.chaos.peaks import Taken, peak
from tests.chaos.plan import Calls
from tests.chaos.reckoning import Reckoning, reckon
from tests.chaos.tenants import Bound
from tests.chaos.upstream import Upstream

LOST = ("lost", "received whole, and lost")
TWICE = ("twice", "went up twice")
TOLD = ("ledger_disk_full", "ledger_broken", "limiter_away", "limiter_back")
CLOCK_US = 3_500_000_000
"""Records are to be so far from each other, since the clock was set by an hour."""
OUTCOMES = ("ok", "client_gone", "truncated", "upstream_error", "unsettled")


@dataclass
class Process:
    """One of the servers. `clock_s`: what its clock was ahead by when it started."""

    clock_s: int
    in_redis: bool
    events: list[str] = field(default_factory=list)
    """What went wrong while it served, and how it ended."""
    exit: int | None = None


@dataclass
class Outcome:
    """All that is known when a run is over."""

    calls: Calls
    callers: Callers
    upstream: Upstream
    bounds: Sequence[Bound]
    records: Sequence[UsageRecord]
    processes: Sequence[Process]
    left: Mapping[str, object]
    """What is still there at the end, and is to be nothing."""
    verified: bool
    """`ledger verify` finds nothing."""
    told: Mapping[str, int]
    """How often the servers' log tells of TOLD."""
    seconds: float

    def __post_init__(self) -> None:
        self.reckoning = self.reckon(self.records)
        self.peaks = self._peaks()

    def reckon(self, records: Sequence[UsageRecord]) -> Reckoning:
        """These records beside the upstream's account."""
        abruptly = {number: process.exit != 0 for number, process in enumerate(self.processes)}
        return reckon(records, self.calls, self.upstream, self.callers.seen, abruptly)

    def failures(self) -> list[str]:
        """What isn't as promised, in sentences. Empty where all is well."""
        return [
            *self.reckoning.wrong,
            *(f"over: {bound}: {most}" for bound, most in self.peaks.items() if most > bound.value),
            *(f"left behind: {what}: {left}" for what, left in self.left.items() if left),
            *([] if self.verified else ["ledger verify finds something"]),
        ]

    def idle(self) -> list[str]:
        """What a run should have seen, and hasn't: then its being well says less than it seems to."""
        served = {one.call.verb for one in self.upstream.served.values() if one.whole}
        times = [record.started_at for record in self.records]
        refused = Counter(one.refused for one in self.callers.seen.values())
        return [
            *(f"no {outcome}" for outcome in OUTCOMES if not self.reckoning.outcomes[outcome]),
            *(f"no {verb}" for verb in VERBS if verb not in served),
            *(f"none {why}" for why in ("RATE_LIMITED", "LEDGER_UNAVAILABLE", "BUDGET_EXCEEDED") if not refused[why]),
            *(f"never told: {event}" for event, count in self.told.items() if not count),
            *([] if max(times) - min(times) >= CLOCK_US else ["the clock was never set"]),
            *(f"not reached: {one}: {most}" for one, most in self.peaks.items() if self._unreached(one, most)),
        ]

    def _unreached(self, bound: Bound, most: int) -> bool:
        """So many callers fill most of their days; minutes begin anew too often for that."""
        return most < bound.value / 2 if bound.kind in ("rpd", "usd") else not most

    def _peaks(self) -> dict[Bound, int]:
        taken, at_once = self._taken(), {}
        for bound in self.bounds:
            if bound.kind == "concurrency" and not bound.key:
                at_once[bound.project] = bound.value
        return {
            bound: self._spent(bound) if bound.per else peak(bound, taken, self.upstream, at_once.get(bound.project, 0))
            for bound in self.bounds
        }

    def _spent(self, bound: Bound) -> int:
        """The most of any period: also by those whose call the upstream never saw."""
        spent = Counter[str]()
        for record in self.records:
            if bound.concerns(record.key_name):
                spent[record.period if bound.per == "day" else bound.per] += record.cost_usd or 0
        return max(spent.values(), default=0)

    def _taken(self) -> list[Taken]:
        epochs, found = self._epochs(), []
        for record in self.records:
            call = self.calls.by_print.get((record.key_name, record.request_bytes))
            served = call and self.upstream.served.get(call.number)
            if call is None or not served:
                continue
            seen = self.callers.seen[call.number]
            text, pictures = call.length - call.inline, int(call.inline > 0)
            guess = oracle.estimated(call.model, call.verb, text, pictures, 1, None, None)
            tokens, images = guess["text"] + guess["image"], int(guess["image out"] > 0)
            took, made = tokens, images
            if record.outcome == "upstream_error":
                took = made = 0
            elif record.prompt_token_count is not None:
                took, made = record.prompt_token_count, record.images
            missed = max(0, took - tokens), max(0, made - images)
            times = seen.sent, served.arrived, epochs[seen.process]
            found.append(Taken(record.key_name, *times, took, missed[0], made, missed[1], record.period))
        return found

    def _epochs(self) -> list[int]:
        """Of each process, to which epoch it belongs: see Taken."""
        found, earliest = [0], self.processes[0].clock_s
        for process in self.processes[1:]:
            found.append(found[-1] + (process.clock_s > earliest))
            earliest = process.clock_s
        return found


def figures(outcome: Outcome) -> dict[str, Any]:
    """For the run's result, and its table."""
    reckoned, seen = outcome.reckoning, outcome.callers.seen.values()
    kinds = Counter(what.partition(":")[0] for what in reckoned.wrong)
    lost, twice = (sum(kinds[kind] for kind in some) for some in (LOST, TWICE))
    return {
        "seed": outcome.calls.seed,
        "calls": len(seen),
        "servers": len(outcome.processes),
        "events": dict(Counter(event for process in outcome.processes for event in process.events)),
        "told": dict(outcome.told),
        "by_operation": dict(Counter(outcome.calls.by_number[number].verb for number in outcome.callers.seen)),
        "left_early": sum(one.left for one in seen),
        "refused": dict(Counter(one.refused for one in seen if one.refused)),
        "went_up": len(outcome.upstream.served),
        "answered_whole": sum(one.whole for one in outcome.upstream.served.values()),
        "received_whole": sum(one.complete and one.status == 200 for one in seen),
        "records": dict(reckoned.outcomes),
        "usd": to_usd(reckoned.nano_dollars),
        "usd_estimated": to_usd(reckoned.estimated_nano_dollars),
        "unsettled": dict(reckoned.unsettled),
        "lost": lost,
        "twice": twice,
        "wrong": len(reckoned.wrong) - lost - twice,
        "most_of_limits": {str(bound): most for bound, most in outcome.peaks.items()},
        "over_limits": sum(most > bound.value for bound, most in outcome.peaks.items()),
        "left_behind": sum(bool(left) for left in outcome.left.values()),
        "ledger_verified": outcome.verified,
        "seconds": round(outcome.seconds),
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures, one a line."""
    lines = []
    for name, value in found.items():
        entries = value.items() if isinstance(value, dict) else ()
        lines.append(f"{name:<44}{'' if entries else _shown(value):>12}")
        lines += [f"    {entry:<40}{_shown(count):>12}" for entry, count in entries]
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)
