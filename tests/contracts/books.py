"""Random histories of the books: what may happen, step by step, and what is looked at after each step."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import Counter as Tally
from collections import deque
from pathlib import Path
from typing import Any, cast

import fakeredis
from fakeredis import FakeServer
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from proxy.billing import reports
from proxy.billing.ledger_errors import LedgerBroken
from proxy.billing.prices import PriceBook
from proxy.billing.verify import Verifier
from proxy.control import rebuild
from proxy.errors import ProxyRefused, RateLimited, Reason
from proxy.gateway.weighing import Weighing
from proxy.limits.interface import Limiter
from proxy.limits.memory import MemoryLimiter
from proxy.limits.redis import RedisLimiter
from proxy.store.redis import Redis
from tests.contracts import attempts, bookkeeping
from tests.contracts.bookkeeping import (
    AT_UPSTREAM,
    DAYS,
    DEADLY,
    IMAGE,
    TENANTS,
    TEXT,
    Fault,
    Process,
    S,
    limits_of,
)
from tests.contracts.expected import Expected, Made
from tests.contracts.stores import fake

EVENING_US = 1_795_303_800 * S
"""2026-11-21T23:30:00Z: half an hour before another day."""
tenants = st.integers(0, len(TENANTS) - 1)
models = st.sampled_from([TEXT, TEXT, IMAGE])
sizes = st.sampled_from([4, 100, 200, 400])
tokens = st.sampled_from([0, 1, 20, 60, 200])
pictures = st.integers(0, 2)
numbers = st.integers(0, 7)
faults = st.sampled_from([None, None, None, *Fault])


class Books(RuleBasedStateMachine):
    """What may happen to a process and to its calls, whatever the limiter is."""

    folders: Path
    loop: asyncio.AbstractEventLoop
    book: PriceBook
    done: Tally[str]
    clock: list[int]
    """The time, in Unix microseconds. That it always was right, no process knows."""

    @initialize()
    def begin(self) -> None:
        self.folder = self.folders / f"{next(_folders)}"
        self.clock[0] = EVENING_US
        self.lives = 0
        self.expected = Expected()
        self.weighings: dict[str, Weighing] = {}
        self.start(self.folder / "0")

    def now_us(self) -> int:
        """The wall's clock."""
        return self.clock[0]

    def second(self) -> int:
        """The store's clock."""
        return self.clock[0] // S

    async def limiter(self) -> Limiter:
        raise NotImplementedError

    async def arrived(self) -> None:
        """Waits until all that the limiter was told has arrived."""

    def counters_are_left_behind(self) -> None:
        """By a process that ended."""

    async def renew(self) -> None:
        """What the limiter's watch does each quarter of a minute."""
        raise NotImplementedError

    def start(self, data_dir: Path) -> None:
        async def start() -> None:
            self.process = Process(data_dir, self.now_us, lambda: self.clock[0] / S, self.book, self.lives)
            self.process.serve(await self.limiter())

        self.lives += 1
        self.loop.run_until_complete(start())

    def fails_then(self, doing: Any, fault: Fault | None) -> Any:
        """Does something with a commit that meets a fault. What it gives, or raises; LedgerBroken where it is dead."""

        async def do() -> Any:
            await self.process.meets(fault)
            try:
                return await doing
            except (ProxyRefused, LedgerBroken) as error:
                return error
            finally:
                await self.process.quiet()
                await self.arrived()

        self.done[fault.name.lower() if fault else "undisturbed"] += 1
        return self.loop.run_until_complete(do())

    # Calls

    @rule(tenant=tenants, model=models, size=sizes, fault=faults)
    def reserve(self, tenant: int, model: str, size: int, fault: Fault | None) -> None:
        """A call asks to be let in: what it takes is reserved, and its lease committed."""
        weighing = self.process.weigh(TENANTS[tenant], model, size)
        record, holds = weighing._record, weighing._holds
        day, second = DAYS.name(self.now_us()), self.second()
        over = [
            hold.counter.name
            for hold in holds
            if not hold.counter.shadow
            and hold.amount
            and self.expected.used(hold.counter, day, second) + hold.amount > hold.counter.value
        ]
        result = self.fails_then(weighing.__aenter__(), None if over else fault)
        if over:
            assert isinstance(result, RateLimited), f"let in over {over}"
            self.done["refused"] += 1
            return
        weighs = {hold.counter.kind: hold.amount for hold in holds}
        made = Made(record.record_id, TENANTS[tenant], model, self.now_us(), day, weighs, second, record.cost_usd)
        if fault in (Fault.LOCKED, Fault.FULL):
            assert isinstance(result, ProxyRefused)
            assert result.reason is Reason.LEDGER_UNAVAILABLE
        elif fault is not Fault.UNWRITTEN:
            self.expected.calls[record.record_id] = made
            self.weighings[record.record_id] = weighing
            self.attempt(made, weighing, dead=fault is Fault.UNTOLD)
        self.bury(fault, result)

    def attempt(self, made: Made, weighing: Weighing, *, dead: bool) -> None:
        """A call that was let in takes of its upstream's quota, too, unless its process is dead by then."""
        attempt = self.expected.attempts[made.record_id] = attempts.attempt(made, weighing)
        attempt.uncounted = dead
        if not dead:
            assert self.loop.run_until_complete(attempts.reserve(self.process, attempt)) is None

    @rule(tenant=tenants, model=models, size=sizes, tokens=tokens, pictures=pictures)
    def call(self, tenant: int, model: str, size: int, tokens: int, pictures: int) -> None:
        """One that nothing disturbs, from reserve to settle."""
        before = set(self.weighings)
        self.reserve(tenant, model, size, None)
        for record_id in self.weighings.keys() - before:
            self.settle(self.expected.open.index(self.expected.calls[record_id]), tokens, pictures, None)

    def one(self, number: int) -> tuple[Made, Weighing]:
        made = self.expected.open[number % len(self.expected.open)]
        return made, self.weighings[made.record_id]

    @precondition(lambda self: self.expected.open)
    @rule(number=numbers, fault=faults)
    def cancel(self, number: int, fault: Fault | None) -> None:
        """Nothing of a call goes up after all. Dead before that is written, nobody knows that."""
        made, weighing = self.one(number)
        result = self.fails_then(bookkeeping.left_by(weighing, ProxyRefused(Reason.DRAINING, "no")), fault)
        if fault is not Fault.UNWRITTEN:
            del self.expected.calls[made.record_id]
            del self.expected.attempts[made.record_id]
        if fault not in DEADLY:
            self.loop.run_until_complete(attempts.cancel(self.process, made, self.arrived))
        self.bury(fault, result)

    @precondition(lambda self: self.expected.open)
    @rule(number=numbers, tokens=tokens, pictures=pictures, fault=faults)
    def settle(self, number: int, tokens: int, pictures: int, fault: Fault | None) -> None:
        """A call is answered, with its usage."""
        made, weighing = self.one(number)
        pictures = pictures if made.model == IMAGE else 0
        result = self.fails_then(bookkeeping.answered(weighing, tokens, pictures), fault)
        usd = bookkeeping.cost(made.model, tokens, pictures)
        self.settled(made, "ok", {"tpm": tokens, "ipm": pictures, "usd": usd}, fault, result)

    @precondition(lambda self: self.expected.open)
    @rule(number=numbers, fault=faults)
    def settle_an_error(self, number: int, fault: Fault | None) -> None:
        """A call is answered with an error: it counts as a call, and takes no tokens."""
        made, weighing = self.one(number)
        result = self.fails_then(bookkeeping.refuses(weighing), fault)
        self.settled(made, "upstream_error", {"tpm": 0, "ipm": 0, "usd": 0}, fault, result)

    @precondition(lambda self: self.expected.open)
    @rule(number=numbers, fault=faults)
    def settle_by_estimate(self, number: int, fault: Fault | None) -> None:
        made, weighing = self.one(number)
        result = self.fails_then(bookkeeping.breaks_off(weighing), fault)
        self.settled(made, "truncated", {}, fault, result)

    def settled(self, made: Made, outcome: str, taken: dict[str, int], fault: Fault | None, result: Any) -> None:
        if fault is not Fault.UNWRITTEN:
            made.ends(outcome, self.second(), taken)
            made.cost = self.weighings[made.record_id]._record.cost_usd
            at_upstream = taken | {"usd_per_10min": made.cost or 0}
            self.expected.attempts[made.record_id].ends(outcome, self.second(), at_upstream)
        if fault not in DEADLY:
            self.loop.run_until_complete(attempts.settle(self.process, made, taken, self.arrived))
        self.bury(fault, result)

    # What happens to the process

    def bury(self, fault: Fault | None, result: Any) -> None:
        """Where the fault was deadly, another process takes over."""
        if fault in DEADLY:
            assert result is None or isinstance(result, LedgerBroken)
            assert self.process.died
            self.crash()

    @rule(killed=st.booleans())
    def end(self, killed: bool) -> None:
        """The process ends, and the next begins."""
        if killed:
            self.crash()
        else:
            self.restart()

    def crash(self) -> None:
        """It is killed: the next finds the files as it left them."""
        successor = self.folder / f"{self.lives}"
        self.loop.run_until_complete(self.process.dies(successor))
        self.done["crashes"] += 1
        self.take_over(successor)

    def restart(self) -> None:
        """An orderly end breaks off what is open, and writes it down."""

        async def end() -> None:
            for made in self.expected.open:
                weighing = self.weighings[made.record_id]
                weighing.goes_up()
                await bookkeeping.left_by(weighing, asyncio.CancelledError())
            await self.process.limiter.close()
            await self.process.ends()

        self.loop.run_until_complete(end())
        self.done["restarts"] += 1
        self.take_over(self.process.data_dir)

    def take_over(self, data_dir: Path) -> None:
        self.start(data_dir)
        self.expected.restarted(self.now_us())
        self.counters_are_left_behind()
        self.weighings.clear()
        self.ledger_holds()

    @rule(seconds=st.sampled_from([1, 14, 30, 59, 60, 61, 62, 600, 1900, 86_400]))
    def pass_time(self, seconds: int) -> None:
        self.clock[0] += seconds * S
        self.loop.run_until_complete(self.renew())

    @invariant()
    def counters_say(self) -> None:
        self.done["looks"] += 1
        day = DAYS.name(self.now_us())
        for tenant in TENANTS:
            found = limits_of(tenant)
            used = self.loop.run_until_complete(self.process.limiter.used(day, found))
            said = {counter.name: taken for counter, taken in zip(found, used, strict=True)}
            assert said == {
                counter.name: (self.expected.used(counter, day, self.second()), self.expected.held(counter, day))
                for counter in found
            }
        say = attempts.counters_say(self.process, self.expected, self.now_us(), self.second())
        self.loop.run_until_complete(say)

    def ledger_holds(self) -> None:
        files = self.process.files
        records = [(record.record_id, (record.outcome, record.cost_usd)) for record in reports.export(files)]
        assert len(records) == len(dict(records)), "a call is recorded twice"
        assert dict(records) == self.expected.records()
        [verifier] = map(Verifier, files)
        assert list(verifier) == []
        assert verifier.summary.open_leases == len(self.expected.open)

    def teardown(self) -> None:
        if not hasattr(self, "process"):
            return
        self.ledger_holds()
        self.crash()
        self.counters_say()
        self.loop.run_until_complete(self.close())
        shutil.rmtree(self.folder)

    async def close(self) -> None:
        await self.process.limiter.close()
        await self.process.ends()


class InMemory(Books):
    """The wall's clock is set, too: an hour back, and right again."""

    @initialize()
    def begin(self) -> None:
        self.late_s = 0
        super().begin()

    def now_us(self) -> int:
        return self.clock[0] - self.late_s * S

    def second(self) -> int:
        return self.steady_ms() // 1000

    def steady_ms(self) -> int:
        return self.clock[0] // 1000 + self.ahead_ms

    async def limiter(self) -> Limiter:
        self.ahead_ms = -self.late_s * 1000
        return MemoryLimiter(self.steady_ms, self.process.history(), self.process.spent())

    def counters_are_left_behind(self) -> None:
        self.expected.counted_from_ledger()

    async def renew(self) -> None:
        state = cast("MemoryLimiter", self.process.limiter).state
        state.renew(self.steady_ms(), tuple(state.leases))
        deque(state.sweep(self.steady_ms), 0)

    @rule(late_s=st.sampled_from([0, 3600]))
    def set_the_clock(self, late_s: int) -> None:
        """Minutes aren't counted by it, save at a start."""
        self.late_s = late_s


class InRedis(Books):
    """What it counts outlives processes, and is lost when it is emptied."""

    @initialize()
    def begin(self) -> None:
        self.server = FakeServer()
        self.store = fake(self.server)
        self.redis: Redis | None = None
        super().begin()

    async def limiter(self) -> Limiter:
        assert self.store.redis is not None
        if self.redis is not None:
            await self.redis.close()
        self.redis = redis = self.store.redis()
        self.process.on_death = lambda: setattr(redis, "send", lambda *command: None)  # what comes now comes too late
        worker, history = self.process.ledger.file_id, self.process.history()
        limiter = RedisLimiter(redis, worker, lambda: self.clock[0] // 1000, history, self.process.spent())
        projects = [tenant.project for tenant in (*TENANTS, AT_UPSTREAM)]
        await limiter.start(projects, rebuild.settled(self.process.files))
        assert not limiter.away
        await redis.drain()
        return limiter

    def counters_are_left_behind(self) -> None:
        found = {(counter, DAYS.name(self.now_us())) for tenant in TENANTS for counter in limits_of(tenant)}
        for counter, day in {*found, *attempts.limited(self.now_us())}:
            if counter.kind not in ("concurrency", "usd"):
                self.expected.put_in_what_is_wanting(counter, day, self.second())

    async def arrived(self) -> None:
        if not self.process.died:
            assert self.redis is not None
            await self.redis.drain()

    async def renew(self) -> None:
        limiter = cast("RedisLimiter", self.process.limiter)
        limiter._mirror.renew(limiter._clock(), tuple(limiter._mirror.leases))
        for command in limiter._renewals():
            limiter._link.deliver(command)
        await self.arrived()

    @rule()
    def empty_redis(self) -> None:
        """It is asked for what it doesn't know any more, and told by the worker."""
        fakeredis.FakeStrictRedis(server=self.server).flushall()
        self.expected.counted_from_ledger()
        self.done["redis_emptied"] += 1


_folders = itertools.count()
