"""Several limiters that share one Redis, as the workers of a fleet, and what their ledger files would hold."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from proxy.config.limits import PERIODS
from proxy.config.redis_address import parse
from proxy.errors import ProxyRefused
from proxy.limits.interface import Counter, Hold, Spent, Taken, period
from proxy.limits.money import Spending
from proxy.limits.redis import RedisLimiter
from proxy.limits.roll import FOLLOW_TIMEOUT_S
from proxy.limits.telling import AskRest
from proxy.store.redis import Redis, open_redis
from tests.limits.demand import DAY

TEXT = "gemini-3.8-flash"
PATIENCE_S = 30.0


def budget(value: int, project: str = "alice", per: str = "month") -> Counter:
    return Counter(f"{{{project}}}:usd:{per}", "usd", value, project, per=per)


class Ledgers:
    """What stands in the ledger files of all workers, one of which may be anybody's to read."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.open: defaultdict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
        """By worker: of each open lease its project and what it may cost."""
        self.asked = 0
        self.fails: Exception | None = None

    def spendings(self, worker: str, *, with_leases: bool) -> list[Spending]:
        sums = dict(self.spent[worker])
        for project, usd in self.open[worker].values() if with_leases else ():
            sums[project] = sums.get(project, 0) + usd
        return [Spending(one, "", TEXT, period(per, DAY), usd) for one, usd in sums.items() for per in PERIODS]

    def rest(self, project: str, live: Collection[str]) -> Mapping[str, Sequence[Spending]]:
        """What those spent who don't live."""
        self.asked += 1
        if self.fails:
            raise self.fails
        return {
            worker: [one for one in self.spendings(worker, with_leases=True) if one.project == project]
            for worker in set(self.spent) | set(self.open)
            if worker not in live
        }

    def total(self, project: str) -> int:
        """All that was spent, and all that may be for what is open."""
        held = sum(usd for of in self.open.values() for whose, usd in of.values() if whose == project)
        return held + sum(of[project] for of in self.spent.values())


class Worker:
    """One process: its limiter, and what it does to its ledger file."""

    def __init__(
        self, connect: Callable[[float], Redis], name: str, ledgers: Ledgers, rest: AskRest | None, timeout_s: float
    ) -> None:
        self.name = name
        self.ledgers = ledgers
        self.rest = rest
        # What an earlier process left open was closed out, by its estimate.
        for project, usd in ledgers.open.pop(name, {}).values():
            ledgers.spent[name][project] += usd
        self.limiter = RedisLimiter(
            connect(timeout_s),
            name,
            lambda: time.monotonic_ns() // 1_000_000,
            spent=ledgers.spendings(name, with_leases=False),
            following=connect(max(timeout_s, FOLLOW_TIMEOUT_S)),
            rest=rest,
        )
        self.watching: asyncio.Task[None] | None = None
        self.tries: dict[str, str] = {}
        """The lease that a call has in the end."""

    async def start(self, left: Mapping[str, int] | None = None) -> None:
        """`left` is what leases cost that an earlier process of it left."""
        known = left or {}

        def settled(lease_id: str) -> Mapping[str, int] | None:
            return {"usd": known[lease_id]} if lease_id in known else None

        await self.limiter.start(["alice", "bob"], settled)
        self.thaw()

    def thaw(self) -> None:
        self.watching = asyncio.get_running_loop().create_task(self.limiter.watch())

    async def freeze(self) -> None:
        """It does nothing more, and keeps its connections."""
        if self.watching:
            self.watching.cancel()
            await asyncio.gather(self.watching, return_exceptions=True)

    async def kill(self) -> None:
        """Nothing that it has to say is said."""
        await self.freeze()
        self.limiter._redis.send = lambda *command: None  # type: ignore[method-assign]
        await self.limiter._telling.close()
        self.limiter._link.away = True  # else what fails by its end would have it come back
        if task := self.limiter._link._returning:
            task.cancel()
        await self.limiter._redis.close()
        assert self.limiter._questions
        await self.limiter._questions.close()

    async def leave(self) -> None:
        await self.freeze()
        await self.limiter.close()

    async def reserve(self, lease_id: str, of: Counter, usd: int) -> bool:
        """Whether it is granted; its lease is in the ledger by then."""
        record_id = self.tries.setdefault(lease_id, lease_id)
        granted = (await self.limiter.reserve(record_id, DAY, [Hold(of, usd)])).granted
        if granted:
            self.ledgers.open[self.name][record_id] = of.project, usd
        return granted

    async def granted(self, lease_id: str, of: Counter, usd: int) -> bool:
        """As soon as it is told at all: also where it was closed for a while. Each try is a call of its own."""
        async with asyncio.timeout(PATIENCE_S):
            for number in itertools.count():
                with suppress(ProxyRefused):
                    self.tries[lease_id] = f"{lease_id}, try {number}"
                    return await self.reserve(lease_id, of, usd)
                await asyncio.sleep(0.05)
        raise AssertionError("unreachable")

    def settle(self, lease_id: str, usd: int) -> None:
        record_id = self.tries[lease_id]
        project, _ = self.ledgers.open[self.name].pop(record_id)
        self.ledgers.spent[self.name][project] += usd
        self.limiter.settle(record_id, {}, Spent(project, "", TEXT, DAY, usd))

    def cancel(self, lease_id: str) -> None:
        del self.ledgers.open[self.name][self.tries[lease_id]]
        self.limiter.cancel(self.tries[lease_id])

    def spend(self, project: str, usd: int) -> None:
        """Without a lease: a correction, or where no budget was."""
        self.ledgers.spent[self.name][project] += usd
        self.limiter.settle("none", {}, Spent(project, "", TEXT, DAY, usd))

    async def used(self, of: Counter) -> Taken:
        """As soon as it is told at all."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if self.limiter.counted_in == "redis":
                    with suppress(ProxyRefused):
                        [taken] = await self.limiter.used(DAY, [of])
                        if self.limiter.counted_in == "redis":
                            return taken
                await asyncio.sleep(0.05)


class Fleet:
    """Workers on one Redis; one of them, "control", tells of the rest, if it is told to."""

    def __init__(self, url: str, timeout_s: float = 1.0, ca_file: Path | None = None) -> None:
        self.address = parse(url)
        self.ca_file = ca_file
        self.ledgers = Ledgers()
        self.timeout_s = timeout_s
        self.workers: dict[str, Worker] = {}

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *error: object) -> None:
        for name in list(self.workers):
            await self.kill(name)

    async def start(self, *names: str) -> list[Worker]:
        """Also those that come after one that was killed."""
        return [await self._start(name) for name in names]

    async def _start(self, name: str) -> Worker:
        left = {lease_id: usd for lease_id, (_, usd) in self.ledgers.open[name].items()}
        rest = self.ledgers.rest if name.startswith("control") else None
        worker = self.workers[name] = Worker(self.open, name, self.ledgers, rest, self.timeout_s)
        await worker.start(left)
        return worker

    def open(self, timeout_s: float) -> Redis:
        return open_redis(self.address, ca_file=self.ca_file, timeout_s=timeout_s)

    async def kill(self, name: str) -> None:
        await self.workers.pop(name).kill()

    async def leave(self, name: str) -> None:
        await self.workers.pop(name).leave()
