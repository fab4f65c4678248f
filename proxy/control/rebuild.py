"""Limit counters from the ledger: what calls took, and what was spent, before this process began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from proxy.billing import recent, reports
from proxy.billing import spent as spendings
from proxy.billing.file_spendings import of_files
from proxy.billing.ledger import open_calls
from proxy.billing.ledger_reading import file_id_of, ledger_files, reading
from proxy.billing.periods import DAY_US, GOOGLES_ZONE, Days
from proxy.billing.recent import OUT_OF_ORDER_US, Call, Spending, Tally
from proxy.billing.spent import Who
from proxy.config.limits import PERIODS
from proxy.config.quotas import SPEND
from proxy.limits import money
from proxy.limits.algorithm import SPAN, History
from proxy.limits.interface import BUCKETS, WINDOWS, Counter, of_upstream, period
from proxy.store.database import Database

S = 1_000_000
SPEND_BUCKET_S = WINDOWS[SPEND] // BUCKETS


def history(files: Sequence[Path], days: Days, now_us: int, monotonic: Callable[[], float]) -> History:
    """What counters begin with, as the ledger files have it. Raises LedgerUnusable.

    `now_us` is this machine's clock, by which the ledger was written; `monotonic` gives seconds that nobody sets. The
    store's clock, by which minutes are counted, may be another: how long ago a call was is what both agree on.

    Concurrency begins at nothing: calls that were in flight ended with their process. A minute from now the last minute
    is forgotten, and likewise ten: a counter that nobody used for a while is met anew. Of days, those are known that
    the clock may be set to yet (`_around`).

    An upstream's counters are those of the records that name it; their days are Google's, whatever `days` are.
    """
    around = _around(files, now_us)
    google = Days(GOOGLES_ZONE)
    before = _Before(now_us, monotonic)
    for file in files:
        for day, began_us in {days.name(at): days.begin(at) for at in around}.items():
            before.add_day(day, recent.tallies(file, day, began_us))
        for day, bounds in {google.name(at): (google.begin(at), google.end(at)) for at in around}.items():
            of_day = recent.upstream_tallies(file, *bounds)
            before.add_day(day, (Tally(of_upstream(one.upstream), "", one.model, one.calls) for one in of_day))
        before.add_minute(recent.calls(file, now_us - SPAN * S))
        before.add_spending(recent.spendings(file, now_us - SPAN * SPEND_BUCKET_S * S))
    return before


class _Before:
    """A History. What is an upstream's stands under its name in place of a project's."""

    def __init__(self, now_us: int, monotonic: Callable[[], float]) -> None:
        self._now_us = now_us
        self._monotonic = monotonic
        self._began = monotonic()
        self._days: dict[tuple[str, str], list[Tally]] = defaultdict(list)
        self._minute: dict[str, list[Call]] = defaultdict(list)
        self._spending: dict[str, list[Spending]] = defaultdict(list)

    def add_day(self, day: str, tallies: Iterable[Tally]) -> None:
        for tally in tallies:
            self._days[tally.project, day].append(tally)

    def add_minute(self, calls: Iterable[Call]) -> None:
        for call in calls:
            self._minute[call.project].append(call)
            self._minute[of_upstream(call.upstream)].append(call)

    def add_spending(self, spendings: Iterable[Spending]) -> None:
        for spending in spendings:
            self._spending[of_upstream(spending.upstream)].append(spending)

    def __call__(self, counter: Counter, day: str, now_ms: int) -> Mapping[int, int]:
        if counter.kind in ("concurrency", "usd"):
            return {}
        if counter.kind == "rpd":
            of_the_day = self._days.get((counter.project, day), ())
            counted = (tally.calls for tally in of_the_day if counter.counts(tally.key_id, tally.model))
            return {now_ms // 1000: sum(counted)}
        passed_ms = int((self._monotonic() - self._began) * 1000)
        buckets: dict[int, int] = defaultdict(int)
        for started_us, amount in self._last(counter, passed_ms):
            ago_ms = max(self._now_us - started_us, 0) // 1000 + passed_ms
            buckets[(now_ms - ago_ms) // 1000] += amount
        return dict(sorted(buckets.items()))

    def _last(self, counter: Counter, passed_ms: int) -> Iterator[tuple[int, int]]:
        """When calls of the last minute, or ten, started, and what they took."""
        if passed_ms >= SPAN * 1000:
            self._minute.clear()
        if passed_ms >= SPAN * SPEND_BUCKET_S * 1000:
            self._spending.clear()
        if counter.kind == SPEND:
            for spending in self._spending.get(counter.project, ()):
                yield spending.started_at, spending.usd
            return
        for call in self._minute.get(counter.project, ()):
            if counter.counts(call.key_id, call.model):
                yield call.started_at, _amount(counter.kind, call)


def spent(files: Sequence[Path], days: Days, now_us: int, project: str | None = None) -> Iterator[money.Spending]:
    """What was spent of budgets before now: ever, this month and today, and in those that the clock may be set to yet
    (`_around`). Of one project, or of all. Raises LedgerUnusable."""
    around = _around(files, now_us)
    for per in PERIODS:
        begun = {period(per, days.name(at)): days.period_begin(per, at) for at in around}
        later: dict[Who, int] = {}
        for name, since in begun.items():
            ever_since = spendings.spent(files, since, project)
            for who, usd in ever_since.items():
                yield money.Spending(*who, name, usd - later.get(who, 0))
            later = ever_since


def _around(files: Sequence[Path], now_us: int) -> list[int]:
    """Now, and what the clock may be set to soon, the latest first: by some time; or, where it was set wrong when this
    process started, as before a machine has asked for the time, to about when the ledger's last calls were."""
    return sorted(
        {now_us + OUT_OF_ORDER_US, now_us, now_us - OUT_OF_ORDER_US, *spendings.last_times(files)}, reverse=True
    )


class OnDisk:
    """What those spent who can't say it themselves, by their ledger files on this machine. Called in a thread."""

    def __init__(self, data_dir: Path, days: Days, now_us: Callable[[], int]) -> None:
        self._data_dir = data_dir
        self._days = days
        self._now_us = now_us

    def __call__(self, project: str | None, live: Collection[str]) -> Mapping[str, Sequence[money.Spending]]:
        """By file, of a project or of all; what open leases may cost is spent. Raises LedgerUnusable, OSError."""
        found: dict[str, list[money.Spending]] = {}
        for path in ledger_files(self._data_dir):
            with reading(path) as connection:
                file_id = file_id_of(connection)
            if file_id not in live:
                # Leases first: one that becomes a record in between is counted twice, which harms nobody.
                found[file_id] = [*_leased(path, project), *spent([path], self._days, self._now_us(), project)]
        return found


class Shipped:
    """What was spent by ledger files of whatever machine, as far as it was shipped. Called in a thread."""

    def __init__(self, database: Database, days: Days, now_us: Callable[[], int]) -> None:
        self._database = database
        self._days = days
        self._now_us = now_us

    def __call__(self, project: str | None, but: Collection[str]) -> Mapping[str, Sequence[money.Spending]]:
        """By file, of a project or of all, but for these files. Raises StoreError."""
        now_us = self._now_us()
        day = self._days.name(now_us - 2 * DAY_US)
        month = self._days.name(now_us - 31 * DAY_US)[:7]
        found: dict[str, list[money.Spending]] = {}
        for one in of_files(self._database, but, day, month, project):
            spending = money.Spending(one.project, one.key_id, one.model, one.period, one.usd)
            found.setdefault(one.file_id, []).append(spending)
        return found


def _leased(path: Path, project: str | None) -> Iterator[money.Spending]:
    """What the calls may cost that a ledger file has open."""
    for one in open_calls(path):
        if project in (None, one.project):
            for per in PERIODS:
                of = period(per, one.period)
                yield money.Spending(one.project, one.key_id, one.model or "", of, one.cost_usd or 0)


def settled(files: Iterable[Path]) -> Callable[[str], Mapping[str, int] | None]:
    """What tells, of a lease that an earlier process left, what its call took; None where it never went up.

    Of an attempt's lease, `<record_id>.<number>`, it tells what the attempt took. All but a call's last were refused.
    """
    files = tuple(files)

    def look_up(lease_id: str) -> Mapping[str, int] | None:
        record_id, _, number = lease_id.partition(".")
        record = reports.find(files, record_id)
        if record is None:
            return None
        if number.isdecimal() and int(number) < len(record.attempts or ()):
            return {"tpm": 0, "ipm": 0, SPEND: 0}
        usd = record.cost_usd or 0
        return recent.taken(record) | {"usd": usd, SPEND: usd}

    return look_up


def _amount(kind: str, call: Call) -> int:
    return {"rpm": 1, "tpm": call.tokens, "ipm": call.images}[kind]
