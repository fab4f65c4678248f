"""Limit counters from the ledger: what calls took, and what was spent, before this process began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from proxy.billing import recent, reports
from proxy.billing import spent as spendings
from proxy.billing.periods import Days
from proxy.billing.recent import OUT_OF_ORDER_US, Call
from proxy.billing.spent import Who
from proxy.config.limits import PERIODS
from proxy.limits.algorithm import SPAN, History
from proxy.limits.interface import Counter, period
from proxy.limits.money import Spending

S = 1_000_000


def history(files: Iterable[Path], days: Days, now_us: int, monotonic: Callable[[], float]) -> History:
    """What counters begin with, as the ledger files have it. Raises LedgerUnusable.

    `now_us` is this machine's clock, by which the ledger was written; `monotonic` gives seconds that nobody sets. The
    store's clock, by which minutes are counted, may be another: how long ago a call was is what both agree on.

    Concurrency begins at nothing: calls that were in flight ended with their process. A minute from now the last minute
    is forgotten: a counter that nobody used for a while is met anew. Near midnight the day before, or the next one, is
    known, too: the clock may be set yet.
    """
    begun = {days.name(at): days.begin(at) for at in (now_us - OUT_OF_ORDER_US, now_us, now_us + OUT_OF_ORDER_US)}
    since = now_us - SPAN * S
    files, began = tuple(files), monotonic()
    tallies, last = defaultdict(list), defaultdict(list)
    for file in files:
        for day, began_us in begun.items():
            for tally in recent.tallies(file, day, began_us):
                tallies[tally.project, day].append(tally)
        for call in recent.calls(file, since):
            last[call.project].append(call)
    for calls in last.values():
        calls.sort(key=lambda call: call.started_at)

    def before(counter: Counter, day: str, now_ms: int) -> Mapping[int, int]:
        if counter.kind in ("concurrency", "usd"):
            return {}
        if counter.kind == "rpd":
            of_the_day = tallies.get((counter.project, day), ())
            return {
                now_ms // 1000: sum(tally.calls for tally in of_the_day if counter.counts(tally.key_id, tally.model))
            }
        passed_ms = int((monotonic() - began) * 1000)
        if passed_ms >= SPAN * 1000:
            last.clear()
        buckets: dict[int, int] = defaultdict(int)
        for call in last.get(counter.project, ()):
            if counter.counts(call.key_id, call.model):
                ago_ms = max(now_us - call.started_at, 0) // 1000 + passed_ms
                buckets[(now_ms - ago_ms) // 1000] += _amount(counter.kind, call)
        return buckets

    return before


def spent(files: Sequence[Path], days: Days, now_us: int) -> Iterator[Spending]:
    """What was spent of budgets before now: ever, this month and today, and near their ends in the ones beside them,
    as the clock may be set yet. Raises LedgerUnusable."""
    for per in PERIODS:
        around = (now_us + OUT_OF_ORDER_US, now_us, now_us - OUT_OF_ORDER_US)
        begun = {period(per, days.name(at)): days.period_begin(per, at) for at in around}
        later: dict[Who, int] = {}
        for name, since in begun.items():
            ever_since = spendings.spent(files, since)
            for who, usd in ever_since.items():
                yield Spending(*who, name, usd - later.get(who, 0))
            later = ever_since


def settled(files: Iterable[Path]) -> Callable[[str], Mapping[str, int] | None]:
    """What tells, of a lease that an earlier process left, what its call took; None where it never went up."""
    files = tuple(files)

    def look_up(lease_id: str) -> Mapping[str, int] | None:
        record = reports.find(files, lease_id)
        return None if record is None else recent.taken(record) | {"usd": record.cost_usd or 0}

    return look_up


def _amount(kind: str, call: Call) -> int:
    return {"rpm": 1, "tpm": call.tokens, "ipm": call.images}[kind]
