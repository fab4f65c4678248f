"""Limits in Redis, for all workers that share it; while it is away, in this process alone."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple

from redis import exceptions
from redis.exceptions import RedisError

from proxy.errors import ProxyRefused, Reason
from proxy.limits import scripts
from proxy.limits.algorithm import History, State
from proxy.limits.interface import CANCELLED, GRANTED, Counter, Hold, Over, Spent, Taken, Verdict
from proxy.limits.memory import RENEWED_EVERY_S
from proxy.limits.money import Spending
from proxy.limits.redis_link import Link
from proxy.limits.refusals import Refusals
from proxy.limits.roll import BEAT_S, Question, Questions, Roll, nobody
from proxy.limits.scripts import Command, Entry, Scripts
from proxy.limits.store_clock import StoreClock
from proxy.limits.telling import AskRest, Telling
from proxy.store.redis import Redis

RENEWED_AT_ONCE = 1000
"""Leases in one command."""
ASKED_AT_ONCE = 500
NOT_LET_IN = "This proxy can't check limits now, and lets no limited call through unchecked. Try again later."
NO_MONEY = (
    "This proxy can't check budgets now, and lets no call of a project that has one through unchecked. "
    "Try again in a few seconds."
)
NOT_TOLD = (
    "What is used of limits can't be told now: Redis doesn't answer, and limits.on_redis_down is \"deny\". "
    "The server's log says why (limiter_away); `weighbridge doctor` looks at Redis."
)

_numbers = itertools.count()
"""Of epochs, in this process."""

Settled = Callable[[str], Mapping[str, int] | None]
"""What a lease's call took, by the kinds of limits; None where its record isn't there: it never went up.

Is called in a thread: it may read files."""


class Left(NamedTuple):
    """What a process that ended may have left in Redis: open leases, of these projects."""

    worker: str
    projects: Sequence[str]
    settled: Settled


class RedisLimiter:
    """A Limiter whose store is Redis. One round trip a reserve; nobody waits for a settle or cancel.

    All that this process does is mirrored in it. When Redis doesn't answer in a second, or answers with anything but a
    script's answer, it is away: with `local` the mirror decides from then on, with `deny` nobody does. What is granted
    meanwhile is counted a second time by itself, to be put into Redis when it is back. Where Redis has lost what this
    worker took, which it sees by what the worker has stated, the mirror is put into it; and each time that this process
    meets a counter, or Redis is back, or a connection to it was opened again, as much of it as is wanting.

    Of money no worker decides alone: while Redis is away, nobody who has a budget is let in; and where Redis was
    emptied, or a budget is new, not before all have said what they spent (telling.py).
    """

    def __init__(
        self,
        redis: Redis,
        worker: str,
        now_ms: Callable[[], int],
        history: History = lambda counter, day, now_ms: {},
        spent: Iterable[Spending] = (),
        *,
        following: Redis | None = None,
        rest: AskRest | None = nobody,
        shared: AskRest | None = None,
        others: Iterable[str] = (),
        on_down: Literal["local", "deny"] = "local",
        on_error: Callable[[], object] = lambda: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`worker` is what this process's ledger file is called, in this process and in those that come after it.

        `now_ms` is this machine's clock. `on_error` is called when Redis goes away, and at each try that
        finds it away still.

        `following` is another way to the same Redis, with FOLLOW_TIMEOUT_S, on which others' questions are heard; None
        where there are no others. `rest` tells what those spent who can't say it themselves, by their files on this
        machine's disk, None where another process of it does; and `shared` what others did, as a database knows them to
        which all machines tell. `others` are workers to be waited for though this process has yet to hear of them.
        """
        self._redis = redis
        redis.scripts = scripts.ALL
        redis.on_opened_again = self._put_in_what_is_wanting
        self._link = Link(redis, self._return, self._owed, on_error, self._state_money_anew, sleep)
        self._epochs = (f"{now_ms()}-{number}" for number in _numbers)
        self._scripts = Scripts(worker, next(self._epochs))
        self._worker = worker
        self._now_ms = now_ms
        self._clock = StoreClock(now_ms)
        self._mirror = State(history, spent)
        self._alone = State()
        """What was granted while Redis was away, and it doesn't know yet."""
        self._refusals = Refusals()
        self._deny = on_down == "deny"
        self._sleep = sleep
        self._outages = itertools.count()
        self._left: list[Left] = []
        self._roll = Roll(worker, now_ms, others, self._scripts.began)
        self._questions = Questions(worker, redis, following, self._roll, asyncio.sleep) if following else None
        self._telling = Telling(
            self._link,
            self._scripts,
            self._mirror,
            self._clock,
            self._roll,
            self._questions,
            rest,
            shared,
            on_error,
            redis.timeout_s,
        )

    @property
    def away(self) -> bool:
        """Whether Redis counts as away."""
        return self._link.away

    async def start(self, projects: Sequence[str], settled: Settled) -> None:
        """Connects, and ends the leases that an earlier process of this worker left in Redis, of these projects.

        Those of which `settled` tells what they took by kind are corrected; of the others nothing was sent: they are
        cancelled.
        Where Redis is away, that is done when it is back.
        """
        self._left.append(Left(self._worker, projects, settled))
        await self._link.start()

    async def end_left_by(self, worker: str, projects: Sequence[str], settled: Settled) -> None:
        """Ends the leases of another worker, whose ledger file was closed out as it won't come back; likewise."""
        left = Left(worker, projects, settled)
        try:
            if self._link.away:
                raise exceptions.ConnectionError("it is away")
            await self._end_what_was_left(left)
        except RedisError:
            self._left.append(left)

    async def reserve(self, lease_id: str, day: str, holds: Sequence[Hold]) -> Verdict:
        if not holds:
            return GRANTED
        if self._mirror.cancelled.pop(lease_id, 0) > self._clock():
            return CANCELLED
        if self._link.away:
            return self._reserve_alone(lease_id, day, holds)
        held, project = scripts.held(day, holds), holds[0].counter.project
        try:
            said = self._telling.said[project]
            command = self._scripts.reserve(lease_id, held, holds)
            answer = await self._link.ask(command)
            if answer[1] >= scripts.UNSTATED_CODE:
                of = [hold.counter for hold in holds]
                answer = await self._telling.until_known(answer, command, day, of, said)
        except (RedisError, ProxyRefused, asyncio.CancelledError) as error:
            if lease_id not in self._mirror.leases:
                self._cancel_in_redis(lease_id, held, project)
            if not isinstance(error, RedisError):
                raise
            return self._reserve_alone(lease_id, day, holds)
        return self._answered(answer, lease_id, held, holds)

    def over(self, day: str, holds: Sequence[Hold]) -> tuple[Over, ...]:
        if not self._link.away:
            return self._refusals.of(self._now_ms(), day, holds)
        if self._deny:
            return ()
        return tuple(over for over in self._mirror.over(self._clock(), day, holds) if not over.counter.shadow)

    def settle(self, lease_id: str, actual: Mapping[str, int], spent: Spent | None = None) -> None:
        lease, now_ms = self._mirror.leases.get(lease_id), self._clock()
        self._mirror.settle(now_ms, lease_id, actual, spent)
        alone = lease_id in self._alone.leases
        if alone:
            self._alone.settle(now_ms, lease_id, actual)
        held = None if lease is None or alone else scripts.held(lease.day, lease.holds)
        project = spent.project if spent else lease.holds[0].counter.project if lease else ""
        accounts = self._mirror.money.counting(spent) if spent else ()
        money = scripts.spent_money(accounts, spent.usd if spent else 0, held)
        if spent and spent.usd:
            self._telling.spent_in(project, spent.day)
        if held or money:
            command = self._scripts.settle(project, lease_id, held, actual, money)
            day = lease.day if lease else spent.day if spent else ""
            self._link.deliver(command, partial(self._ended, project, day) if money else None)

    def cancel(self, lease_id: str) -> None:
        lease, now_ms = self._mirror.leases.get(lease_id), self._clock()
        if lease_id in self._alone.leases:
            self._alone.cancel(now_ms, lease_id)
        elif lease is not None:
            self._cancel_in_redis(lease_id, scripts.held(lease.day, lease.holds), lease.holds[0].counter.project)
        self._mirror.cancel(now_ms, lease_id)

    @property
    def counted_in(self) -> Literal["redis", "memory while redis is away"]:
        return "memory while redis is away" if self._link.away else "redis"

    async def used(self, day: str, counters: Sequence[Counter]) -> list[Taken]:
        if counters and not self._link.away:
            try:
                said = self._telling.said[counters[0].project]
                command = self._scripts.used(day, counters)
                answer = await self._link.ask(command)
                if answer[1] >= scripts.UNSTATED_CODE:
                    answer = await self._telling.until_known(answer, command, day, counters, said)
                return scripts.taken(answer)
            except RedisError:
                pass
        if self._deny:
            raise ProxyRefused(Reason.LIMITER_UNAVAILABLE, NOT_TOLD)
        return [self._mirror.taken(self._clock(), day, counter) for counter in counters]

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew())
            if self._questions:
                group.create_task(self._beat())
                group.create_task(self._questions.follow(self._telling.answer, self._telling.ask_who_knows))

    async def close(self) -> None:
        await self._telling.close()
        if self._questions:
            self._link.deliver(self._scripts.beat(leaves=True))
            await self._questions.close()
        await self._link.close()

    async def _renew(self) -> None:
        while True:
            await self._sleep(RENEWED_EVERY_S)
            self._mirror.renew(self._clock(), tuple(self._mirror.leases))
            for _ in self._mirror.sweep(self._clock):
                await asyncio.sleep(0)
            if not self._link.away:
                for command in self._renewals():
                    self._link.deliver(command)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if not self._link.away:
                with suppress(RedisError):  # which the link tells
                    self._roll.take(await self._link.ask(self._scripts.beat()))

    def _answered(self, answer: Sequence[Any], lease_id: str, held: Entry, holds: Sequence[Hold]) -> Verdict:
        now_ms, verdict = self._clock.heard(answer[0]), scripts.verdict(answer, holds)
        if not verdict.granted:
            self._refusals.note(self._now_ms(), held.day, verdict.refused)
        elif self._mirror.cancelled.pop(lease_id, None):  # while it was on its way
            self._cancel_in_redis(lease_id, held, holds[0].counter.project)
            return CANCELLED
        elif lease_id not in self._mirror.leases:
            self._mirror.charge(now_ms, lease_id, held.day, holds)
        return verdict

    def _ended(self, project: str, day: str, answer: Sequence[Any]) -> None:
        """A call's end was counted, but for accounts in which others have spoken for this worker meanwhile."""
        for account in answer[2:]:
            budgets = [one for one in self._mirror.money.budgets(project, day) if scripts.is_account(account, one, day)]
            self._telling.answer(Question(project, day, tuple(budgets)))

    def _reserve_alone(self, lease_id: str, day: str, holds: Sequence[Hold]) -> Verdict:
        if self._deny:
            raise ProxyRefused(Reason.LIMITER_UNAVAILABLE, NOT_LET_IN)
        if any(hold.counter.per and not hold.counter.shadow for hold in holds):
            raise ProxyRefused(Reason.LIMITER_UNAVAILABLE, NO_MONEY)
        now_ms, known = self._clock(), lease_id in self._mirror.leases
        verdict = self._mirror.reserve(now_ms, lease_id, day, holds)
        if verdict.granted and not known and self._link.away:
            self._alone.charge(now_ms, lease_id, day, holds)
        return verdict

    def _cancel_in_redis(self, lease_id: str, held: Entry, project: str) -> None:
        command = self._scripts.cancel(project, lease_id, held)
        self._link.deliver(command, partial(self._ended, project, held.day))

    def _state_money_anew(self) -> None:
        """Whatever Redis has missed of it: each account is stated again before it next counts."""
        self._scripts.epoch = next(self._epochs)

    def _owed(self) -> list[Command]:
        """What was granted while Redis was away; and all that was ever taken, for the case that it was emptied."""
        alone, self._alone, now_ms = self._alone, State(), self._clock()
        self._state_money_anew()
        deque(self._mirror.sweep(self._clock), 0)
        return self._scripts.state_all(self._mirror, alone, f"{self._worker}:{now_ms}:{next(self._outages)}")

    def _put_in_what_is_wanting(self) -> None:
        """Redis may have been started again, with older data, while nothing of this process was on its way to it."""
        if not self._link.away:  # else that is done when it is back
            for command in self._scripts.state_all(self._mirror, State(), ""):
                self._link.deliver(command)

    async def _return(self) -> None:
        """What comes first when Redis is there. Raises RedisError, and what `settled` does."""
        if self._questions:
            beat = self._scripts.beat()
            self._roll.take(await self._redis.ask(beat.project, beat.arguments, beat.script))
        while self._left:
            await self._end_what_was_left(self._left[0])
            self._left.pop(0)

    async def _end_what_was_left(self, left: Left) -> None:
        """Raises RedisError, and what `settled` does."""
        says = self._scripts if left.worker == self._worker else Scripts(left.worker)
        for begin in range(0, len(left.projects), ASKED_AT_ONCE):
            some = left.projects[begin : begin + ASKED_AT_ONCE]
            asked = (self._redis.ask(one, says.leases(one)) for one in some)
            found: list[tuple[str, str, Entry]] = []
            for project, answer in zip(some, await asyncio.gather(*asked, return_exceptions=True), strict=True):
                if isinstance(answer, RedisError) and self._link.spoiled(answer, project):
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                found += ((project, lease_id, held) for lease_id, held in scripts.entries(answer).items())
            # In a thread: calls may be served meanwhile.
            taken = await asyncio.to_thread(lambda of: [left.settled(lease_id) for _, lease_id, _ in of], found)
            for (project, lease_id, held), actual in zip(found, taken, strict=True):
                if actual is not None:
                    money = [one._replace(spent=actual.get("usd", 0)) for one in scripts.held_money(held)]
                    ended = says.settle(project, lease_id, held, actual, money, scripts.ANY_EPOCH)
                    self._link.deliver(ended)
                elif lease_id not in self._mirror.leases:
                    self._link.deliver(says.cancel(project, lease_id, held, scripts.ANY_EPOCH))

    def _renewals(self) -> Iterator[Command]:
        """Commands that renew all open leases."""
        open_in: dict[tuple[str, str], list[str]] = {}
        for lease_id, lease in self._mirror.leases.items():
            for counter, _ in lease.holds:
                if counter.kind == "concurrency":
                    open_in.setdefault((counter.project, counter.name), []).append(lease_id)
        for (project, name), ids in open_in.items():
            for begin in range(0, len(ids), RENEWED_AT_ONCE):
                yield self._scripts.renew(project, name, ids[begin : begin + RENEWED_AT_ONCE])
