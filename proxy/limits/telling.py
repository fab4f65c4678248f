"""Each says what it took: Redis is given what it lacks, and no call of a budget passes before all have spoken."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import structlog
from redis import exceptions
from redis.exceptions import RedisError

from proxy.errors import ProxyRefused, Reason
from proxy.limits import scripts
from proxy.limits.algorithm import State
from proxy.limits.interface import Counter
from proxy.limits.money import Money, Spending
from proxy.limits.redis_link import Link
from proxy.limits.roll import Question, Questions, Roll
from proxy.limits.scripts import UNSTATED_CODE, UNTOLD_CODE, Command, Scripts
from proxy.limits.store_clock import StoreClock

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

COUNTED_ANEW = "This proxy's budgets are being counted anew. Try again in a second."
FIRST_LOOK_S, LATER_LOOKS_S = 0.005, 0.1
"""How soon it is looked whether all have answered: at first, and, each time twice as long, at most."""
MOST_SAID = 30
"""How often the same is said that Redis doesn't keep, before it counts as away."""
REST_AGAIN_S = 1.0
"""How long those are left alone who couldn't tell what the rest spent."""

AskRest = Callable[[str, Collection[str]], Mapping[str, Sequence[Spending]]]
"""What was spent in a project by processes that can't say so themselves: by their ledger files' ids, in all periods.
What open leases of these files may cost counts as spent.

It is told who lives, and may leave them out. Is called in a thread: it may read files, and ask a database. May raise.
"""


class Telling:
    """What this worker says of itself, and has others say.

    An account of a budget counts when this worker has said what it spent (else Redis answers UNSTATED_CODE), and when
    everybody else has (else UNTOLD_CODE): those who live themselves; each who has a `rest`, with that; and what is
    `shared` any of these. They name all who live, so that an account knows by itself for whom it waits.
    """

    def __init__(
        self,
        link: Link,
        says: Scripts,
        mirror: State,
        clock: StoreClock,
        roll: Roll,
        questions: Questions | None,
        rest: AskRest | None,
        shared: AskRest | None,
        on_error: Callable[[], object],
        timeout_s: float,
    ) -> None:
        """`rest` tells of what is on this machine's disk, None where another process of it does; `shared` of what any
        machine may know, None where there is nothing."""
        self._link = link
        self._scripts = says
        self._mirror = mirror
        self._clock = clock
        self._roll = roll
        self._questions = questions
        self._rest = rest
        self._shared = shared
        self._on_error = on_error
        self._timeout_s = timeout_s
        self.said: defaultdict[str, int] = defaultdict(int)
        """How often something was said, by project. Only whoever asked after the last time need say it again: what it
        asked for was carried out before, so that all that this worker was granted is known."""
        self._led: dict[tuple[Counter, ...], asyncio.Event] = {}
        """Counters that are being made known, and what is set when that is over."""
        self._finding: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._answering: dict[Question, asyncio.Task[None]] = {}
        self._told = ""
        self._spent_in: set[str] = set()
        self._unasked: dict[str, str] = {}
        """Projects in which this process spent, of whose budgets it hasn't asked others yet; and on which day."""

    async def until_known(
        self, answer: Sequence[Any], command: Command, day: str, counters: Sequence[Counter], said: int
    ) -> Sequence[Any]:
        """Says, or has said, what is wanting by an answer; and asks again until there is another. `said` is what it was
        when the command was sent.

        Raises RedisError; and ProxyRefused LIMITER_UNAVAILABLE where others haven't said it in time.
        """
        try:
            # For others. What takes long because this process is busy, must not have Redis count as away.
            async with asyncio.timeout(None) as bound:
                while answer[1] in (UNSTATED_CODE, UNTOLD_CODE):
                    unknown = _unknown(answer, counters)
                    if bound.when() is None and any(one.per for one in unknown):
                        bound.reschedule(asyncio.get_running_loop().time() + self._timeout_s)
                    led = self._led.get(unknown)
                    if led is None:
                        answer = await self._lead(unknown, answer, command, day, counters, said)
                    else:  # of many calls at once, one asks for all
                        await led.wait()
                        said = self.said[command.project]
                        answer = await self._link.ask(command)
        except TimeoutError:
            raise ProxyRefused(Reason.LIMITER_UNAVAILABLE, COUNTED_ANEW) from None
        return answer

    async def _lead(
        self,
        unknown: tuple[Counter, ...],
        answer: Sequence[Any],
        command: Command,
        day: str,
        counters: Sequence[Counter],
        said: int,
    ) -> Sequence[Any]:
        """As `until_known`, until other counters are unknown than were."""
        led = self._led[unknown] = asyncio.Event()
        again, look_s, lost = False, FIRST_LOOK_S, 0
        try:
            # More than once where Redis was emptied in between, or has to be given the script itself first.
            while answer[1] in (UNSTATED_CODE, UNTOLD_CODE) and _unknown(answer, counters) == unknown:
                lost = lost + 1 if answer[1] == UNSTATED_CODE else 0
                if lost > MOST_SAID:
                    error = exceptions.ResponseError("Redis loses what it is told")
                    self._link.lost(error, command.project)
                    raise error
                if answer[1] == UNSTATED_CODE:
                    again = await self._say(answer, day, counters, said, again)
                else:
                    again = True
                    await self._have_said(answer, day, counters, look_s)
                    look_s = min(2 * look_s, LATER_LOOKS_S)
                said = self.said[command.project]
                answer = await self._link.ask(command)
                if answer[1] == UNSTATED_CODE and command.project in self._link.spoiled_projects:
                    raise exceptions.ResponseError("a key of this project is spoiled")
        finally:
            del self._led[unknown]
            led.set()
        return answer

    def answer(self, question: Question) -> None:
        """Says what this worker spent of what others ask for, if it hasn't, without waiting for it."""
        if not question.budgets:
            self._ask_for_all(question)
        elif question not in self._answering and not self._link.away:
            task = asyncio.get_running_loop().create_task(self._answer(question))
            self._answering[question] = task
            task.add_done_callback(lambda _: self._answering.pop(question, None))

    def spent_in(self, project: str, day: str) -> None:
        """Has budgets of a project asked for of which this process may not know yet, when it first spends of them."""
        if self._questions and project not in self._spent_in:
            self._spent_in.add(project)
            self._unasked[project] = day
            self.ask_who_knows()

    def ask_who_knows(self) -> None:
        """Asks what waited for the answers to be heard."""
        if self._questions and self._questions.hears:
            for project, day in self._unasked.items():
                self._questions.ask(project, day, ())
            self._unasked.clear()

    async def close(self) -> None:
        tasks = [*self._finding.values(), *self._answering.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _say(self, answer: Sequence[Any], day: str, counters: Sequence[Counter], said: int, again: bool) -> bool:
        """Says what this worker took of the counters that an answer names; and with it, where it was said `again` in
        vain, what is on its disk. Whether it is `again` the next time."""
        project = counters[0].project
        if said != self.said[project]:
            return again
        unstated = [counters[index] for index in answer[2:]]
        how = scripts.MINE if self._rest is None else scripts.AGAIN
        if again and self._rest and any(one.per for one in unstated):
            await self._say_mine(day, [one for one in unstated if one.per], said)
            return True
        # Sent before anything else can happen: what is granted meanwhile would be lost.
        self._send(day, unstated, how, self._clock.heard(answer[0]))
        return self._rest is not None and any(one.per for one in unstated)

    async def _have_said(self, answer: Sequence[Any], day: str, counters: Sequence[Counter], look_s: float) -> None:
        """Has others say what they spent of the budgets that an answer names."""
        untold = {counters[index]: ids for index, ids in scripts.untold(answer).items()}
        if self._questions:
            self._questions.ask_once(counters[0].project, day, tuple(untold), self._clock())
        of_rest = [one for one, ids in untold.items() if any(map(self._is_of_rest, ids))]
        if self._rest and of_rest:
            await self._say_rest(day, of_rest, look_s)
        else:
            await asyncio.sleep(look_s)

    def _is_of_rest(self, worker: str) -> bool:
        return worker == scripts.NOBODY_ELSES or not self._roll.is_live(worker)

    async def _say_mine(self, day: str, budgets: Sequence[Counter], said: int) -> None:
        """Says what this worker spent, and what those did whose files are on its disk; waits until that is sent.

        It hasn't said it yet, as long as `said` is the same.
        """
        await asyncio.wait((self._task("mine", budgets, lambda: self._find_mine(day, budgets, said)),))

    async def _say_rest(self, day: str, budgets: Sequence[Counter], wait_s: float | None) -> None:
        """Has it found out what the rest spent, and said; waits for that, though no longer than `wait_s`. It goes on
        where nobody waits any more."""
        await asyncio.wait((self._task("rest", budgets, lambda: self._find_rest(day, budgets)),), timeout=wait_s)

    def _task(self, what: str, budgets: Sequence[Counter], find: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """The one that is finding that out for the project."""
        key = what, budgets[0].project
        task = self._finding.get(key)
        if task is None:
            task = self._finding[key] = asyncio.get_running_loop().create_task(self._trying(find))
            task.add_done_callback(lambda _: self._finding.pop(key, None))
        return task

    async def _trying(self, find: Callable[[], Awaitable[None]]) -> None:
        try:
            await find()
            self._told = ""
        except RedisError:
            pass  # as the link has told
        except Exception as error:  # whatever it is, such as a database that is away: it must be tried again
            self._on_error()
            if repr(error) != self._told:
                self._told = repr(error)
                log.exception("limiter_rest_unknown")
            await asyncio.sleep(REST_AGAIN_S)

    async def _find_mine(self, day: str, budgets: Sequence[Counter], said: int) -> None:
        project, live = budgets[0].project, self._roll.live()
        spent = await self._ask_rest(self._rest, project, live)
        if said != self.said[project]:
            await self._look(project, day, budgets)
        self._send(
            day, budgets, scripts.DISK if self._shared else scripts.REST, self._clock(), self._others(live, spent)
        )

    async def _find_rest(self, day: str, budgets: Sequence[Counter]) -> None:
        project, live = budgets[0].project, self._roll.live()
        spent = await self._ask_rest(self._rest, project, live)
        if self._shared:  # which may take long, or be out of this machine's reach alone
            await self._look(project, day, budgets)
            self._send(day, budgets, scripts.DISK, self._clock(), self._others(live, spent))
            spent = await self._ask_rest(self._shared, project, live | spent.keys()) | spent
        named = await self._look(project, day, budgets)
        self._send(
            day, budgets, scripts.REST, self._clock(), self._others(live, {one: Money() for one in named} | spent)
        )

    async def _ask_rest(self, ask: AskRest | None, project: str, live: Collection[str]) -> dict[str, Money]:
        assert ask is not None
        found = await asyncio.to_thread(ask, project, {*live, self._scripts.worker})
        return {worker: Money(spendings) for worker, spendings in found.items()}

    def _others(self, live: Collection[str], spent: Mapping[str, Money]) -> scripts.Rest:
        """`live` were, when it was asked what others spent: who died since, was left out of that."""
        live = {*live, *self._roll.live()}
        dead = {one for one in spent if one not in live and not self._roll.is_live(one)}
        return scripts.Rest(live, dead, spent)

    async def _look(self, project: str, day: str, budgets: Sequence[Counter]) -> set[str]:
        """Who has yet to say what they spent. Until its caller awaits something, nothing more is granted to this worker
        of a budget of which it has said nothing."""
        while True:
            said = self.said[project]
            answer = await self._link.ask(self._scripts.used(day, budgets))
            if said == self.said[project]:
                break
        untold = scripts.untold(answer) if answer[1] == UNTOLD_CODE else {}
        return {one for ids in untold.values() for one in ids} - {scripts.NOBODY_ELSES}

    def _send(
        self, day: str, counters: Sequence[Counter], how: str, now_ms: int, rest: scripts.Rest | None = None
    ) -> None:
        self.said[counters[0].project] += 1
        self._link.deliver(self._scripts.state_some(self._mirror, now_ms, day, counters, how, rest))

    async def _answer(self, question: Question) -> None:
        """Like one who asks for itself, but that it asks nobody."""
        project, day, budgets = question
        command, again = self._scripts.used(day, budgets), False
        try:
            for _ in range(3):
                said = self.said[project]
                answer = await self._link.ask(command)
                if answer[1] == UNSTATED_CODE:
                    again = await self._say(answer, day, budgets, said, again)
                elif answer[1] == UNTOLD_CODE and self._rest:
                    untold = scripts.untold(answer)
                    of_rest = [budgets[index] for index, ids in untold.items() if any(map(self._is_of_rest, ids))]
                    if not of_rest:
                        return
                    await self._say_rest(day, of_rest, None)
                else:
                    return
        except RedisError:
            pass  # as the link has told: whoever asked will ask again

    def _ask_for_all(self, question: Question) -> None:
        budgets: Iterable[Counter] = self._mirror.money.budgets(question.project, question.day)
        if self._questions and (budgets := tuple(budgets)):
            self._questions.ask(question.project, question.day, budgets)


def _unknown(answer: Sequence[Any], counters: Sequence[Counter]) -> tuple[Counter, ...]:
    """The counters that an answer names."""
    indexes = answer[2:] if answer[1] == UNSTATED_CODE else answer[2::2]
    return tuple(counters[index] for index in indexes)
