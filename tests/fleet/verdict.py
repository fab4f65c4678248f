"""What a run of a fleet comes to: the bill as in the chaos run, who was served, and by how much limits were over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from proxy.billing.records import to_usd
from tests.chaos.callers import Seen
from tests.chaos.calls import Call
from tests.chaos.outcome import Outcome
from tests.chaos.peaks import PEAKS, Taken
from tests.chaos.tenants import Bound
from tests.fleet.books import Books
from tests.fleet.faults import Fault
from tests.fleet.load import MONEY

REDIS_FAULTS = ("redis_stopped", "redis_failed_over")
LIMITED = ("RATE_LIMITED", "BUDGET_HELD", "BUDGET_EXCEEDED")
DENIED = ("BAD_REQUEST", "UNMETERABLE_PARAMETER", "UNKNOWN_OPERATION", "RESOURCE_NOT_OWNED")
"""What those calls get that are never to go up."""
UNKNOWN = ("refused: cachedContent", "STORE_UNAVAILABLE")
"""Whether somebody owns a resource, only the database knows."""


class Verdict(Outcome):
    """`judge` it before all else: what happened to the fleet says what it may have refused."""

    faults: Sequence[Fault]
    workers: int
    kept: Books

    def judge(self, faults: Sequence[Fault], workers: int, kept: Books) -> None:
        self.faults, self.workers, self.kept = faults, workers, kept

    def failures(self) -> list[str]:
        return [*self.reckoning.wrong, *self.kept.wrong, *self._unserved(), *self._over()]

    def idle(self) -> list[str]:
        """What a run should have seen, and hasn't."""
        refused = Counter(one.refused for one in self.callers.seen.values())
        return [
            *(f"none {why}" for why in ("RATE_LIMITED", "BUDGET_EXCEEDED", "LIMITER_UNAVAILABLE") if not refused[why]),
            *(f"not one call met: {fault.name}" for fault in self.faults if not self._met(fault)),
            *(f"no {outcome}" for outcome in ("ok", "unsettled") if not self.reckoning.outcomes[outcome]),
        ]

    def _met(self, fault: Fault) -> int:
        return sum(fault.meets(seen.sent, seen.ended) for seen in self.callers.seen.values())

    def _unserved(self) -> Iterator[str]:
        """Calls that got neither the upstream's answer nor a refusal that was due."""
        for number, seen in self.callers.seen.items():
            call = self.calls.by_number[number]
            if not seen.process and not self._served(call, seen):
                when = [fault.name for fault in self.faults if fault.meets(seen.sent, seen.ended)]
                yield f"unserved: call {number} of {call.key}, {call.verb}: {seen}, while {when}"

    def _served(self, call: Call, seen: Seen) -> bool:
        """No process died in this call."""
        if seen.refused in DENIED or (call.verb, seen.refused) == UNKNOWN:
            return call.verb.startswith("refused") and seen.complete
        if seen.refused in LIMITED:
            return not call.key.startswith("free") and seen.complete
        if seen.refused == "LIMITER_UNAVAILABLE":
            return call.project == MONEY and any(
                fault.closes_budgets(seen.sent) for fault in self.faults if fault.name != "postgres_stopped"
            )
        if not call.metered:
            return seen.status == 200 and seen.complete and not seen.refused
        served = self.upstream.served.get(call.number)
        if served is not None and not served.whole and seen.refused == "UPSTREAM_UNREACHABLE":
            return seen.complete  # the upstream broke off before anything of its answer had gone on
        return served is not None and (seen.status, seen.complete) == (served.status, served.whole) and not seen.refused

    def _over(self) -> Iterator[str]:
        """Money never is. Else at the most what each worker lets in alone, and where Redis was there, nothing."""
        for bound, most in self.peaks.items():
            if most > bound.value * (1 if bound.kind == "usd" else self.workers):
                yield f"over: {bound}: {most}"
        for bound in self.bounds:
            if bound.kind in ("rpm", "tpm", "ipm") and (most := self._most_with_redis(bound)) > bound.value:
                yield f"over while Redis counted: {bound}: {most}"

    def _most_with_redis(self, bound: Bound) -> int:
        """The most of any 60 seconds in which no worker had to count alone."""
        mine = [one for one in self._taken() if bound.concerns(one.key)]
        whose = bound.project, "", "concurrency"
        at_once = sum(one.value for one in self.bounds if (one.project, one.key, one.kind) == whose)
        return max((PEAKS[bound.kind](part, at_once) for part in self._parts(mine)), default=0)

    def _parts(self, taken: Sequence[Taken]) -> Iterator[list[Taken]]:
        """What was let in before the first time that Redis was away, between that and the next, and so on."""
        away = [fault for fault in self.faults if fault.name in REDIS_FAULTS]
        begins = [0.0, *(fault.over for fault in away)]
        ends = [*(fault.began for fault in away), float("inf")]
        for begin, end in zip(begins, ends, strict=True):
            yield [one for one in taken if begin < one.sent and one.arrived < end]

    def figures(self) -> dict[str, Any]:
        """For the proof's result."""
        seen = self.callers.seen.values()
        return {
            "calls": len(seen),
            "seconds": round(self.seconds),
            "workers": self.workers,
            "faults": {fault.name: self._met(fault) for fault in self.faults},
            "broken_by_a_kill": sum(one.process and not one.complete for one in seen),
            "refused": dict(Counter(one.refused for one in seen if one.refused)),
            "went_up": len(self.upstream.served),
            "records": dict(self.reckoning.outcomes),
            "usd": to_usd(self.reckoning.nano_dollars),
            "unsettled": dict(self.reckoning.unsettled),
            "wrong": len(self.reckoning.wrong),
            "most_of_limits": {str(bound): most for bound, most in self.peaks.items()},
        }
