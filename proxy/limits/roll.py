"""Which processes share the limits in Redis: each beats, each remembers whom it heard, and each can ask all others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from redis.exceptions import RedisError

from proxy.limits.interface import Counter
from proxy.limits.money import Spending
from proxy.limits.scripts import ASKED, WORKERS
from proxy.store.redis import Redis
from proxy.store.redis_advice import advice

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

BEAT_S = 1.0
LIVE_MS = 60_000
"""How long one who was heard counts as live: by then a cluster or sentinels have put an old master out of use."""
REMEMBERED_MS = 10 * LIVE_MS
BLOCK_S = 2.0
"""How long Redis holds back the answer to who waits for questions, while there is none."""
FOLLOW_TIMEOUT_S = BLOCK_S + 1.0
ASKED_AGAIN_MS = 150
AT_ONCE = 100
SURE_OF_TWIN = 3
"""Beats in a row before each of which another one beat under this process's name. A Redis that went back to older data
has a dead predecessor's word once."""
AGAIN_S = 0.25, 5.0
"""How long Redis is left alone when questions can't be heard: at first, and, each time twice as long, at most."""

KEPT = 1000
"""Questions, or some more: Redis removes them by the hundred."""


class Question(NamedTuple):
    """All shall say what they spent of these budgets of one project, in the periods that a day lies in. Where none is
    named: whoever knows of a budget of the project shall ask for it."""

    project: str
    day: str
    budgets: tuple[Counter, ...]


class TwinError(Exception):
    """Another process has the same ledger file's id, and was there first."""


class Roll:
    """Whom this process knows. One is live for LIVE_MS after it was heard, by this process's own memory: nobody is
    forgotten with a Redis that is emptied."""

    def __init__(self, worker: str, now_ms: Callable[[], int], others: Iterable[str] = (), began: str = "") -> None:
        """`others` are taken for heard now. `began` says since when this process has been there."""
        self._worker = worker
        self._began = began
        self._has_beaten = False
        self._strange_beats = 0
        self._now_ms = now_ms
        self._heard_at = dict.fromkeys(others, now_ms())
        self._left: set[str] = set()
        self._began_at = now_ms()

    def take(self, answer: Sequence[Any]) -> None:
        """Takes in what a beat was answered (beat.lua). Raises TwinError."""
        now_ms = self._now_ms()
        self._began_at = now_ms - answer[1]
        self._look_for_twin(answer[2].decode())
        for of, ago_ms in zip(answer[3::2], answer[4::2], strict=True):
            if ago_ms < 0:
                self.left(of.decode())
            else:
                self.heard(of.decode(), now_ms - ago_ms)
        for worker in [worker for worker, at in self._heard_at.items() if at < now_ms - REMEMBERED_MS]:
            del self._heard_at[worker]
            self._left.discard(worker)

    def _look_for_twin(self, before: str) -> None:
        """Somebody else beats under this process's name, each time after it did: no predecessor, which is dead."""
        self._strange_beats = self._strange_beats + 1 if self._has_beaten and before not in ("", self._began) else 0
        if self._strange_beats >= SURE_OF_TWIN:
            twin = TwinError(
                f"Another process writes a copy of this one's ledger file ({self._worker}), as where a data_dir was "
                "cloned: what both spend can't be told apart. Stop one, and remove ledger/ from its data_dir."
            )
            if before < self._began:
                raise twin
            log.critical("ledger_twin", why=str(twin), what="the other one, which came later, ends")
        self._has_beaten = True

    def heard(self, worker: str, at_ms: int | None = None) -> None:
        """It is there, or was then."""
        at_ms = self._now_ms() if at_ms is None else at_ms
        if at_ms >= self._heard_at.get(worker, at_ms):
            self._heard_at[worker] = at_ms
            self._left.discard(worker)

    def left(self, worker: str) -> None:
        """It ended, having said all that it had to say."""
        self._heard_at.setdefault(worker, self._now_ms())
        self._left.add(worker)

    def live(self) -> set[str]:
        """All that are, but for this process."""
        return {worker for worker in self._heard_at if worker != self._worker and self.is_live(worker)}

    def is_live(self, worker: str) -> bool:
        """Of one of whom nothing is known, that is certain only when a register has been kept for as long."""
        if worker in self._left:
            return False
        return self._heard_at.get(worker, self._began_at) > self._now_ms() - LIVE_MS


class Questions:
    """The stream on which processes ask each other, and are told at once who joins and leaves."""

    def __init__(
        self, worker: str, redis: Redis, following: Redis, roll: Roll, sleep: Callable[[float], Awaitable[object]]
    ) -> None:
        """`following` is another way to the same Redis, for what blocks there: with FOLLOW_TIMEOUT_S."""
        self._worker = worker
        self._redis = redis
        self._following = following
        self._roll = roll
        self._sleep = sleep
        self._asked_at: dict[tuple[str, ...], int] = {}
        self.hears = False
        """Whether what others ask arrives."""

    def ask_once(self, project: str, day: str, budgets: Sequence[Counter], now_ms: int) -> None:
        """As `ask`, but not again what was asked just now."""
        names = project, day, *(one.name for one in budgets)
        if 0 <= now_ms - self._asked_at.get(names, -ASKED_AGAIN_MS) < ASKED_AGAIN_MS:
            return
        if len(self._asked_at) >= KEPT:
            self._asked_at.clear()
        self._asked_at[names] = now_ms
        self.ask(project, day, budgets)

    def ask(self, project: str, day: str, budgets: Sequence[Counter]) -> None:
        """Asks all others, without waiting for an answer. Raises nothing."""
        asked = [(one.name, one.key_id, one.model, one.shadow, one.per) for one in budgets]
        fields = "asked", self._worker, "of", msgspec.json.encode((project, day, asked))
        self._redis.send(WORKERS, ("XADD", ASKED, "MAXLEN", "~", KEPT, "*", *fields), lambda answer: None)

    async def follow(self, on_question: Callable[[Question], object], on_hearing: Callable[[], object]) -> None:
        """Hears what others ask, for ever. `on_hearing` is called each time that it begins to."""
        tries, told = 0, False
        while True:
            try:
                await self._following.connect()
                last = await self._newest()
                if told:
                    log.info("limiter_questions_back")
                tries, told = 0, False
                self.hears = True
                on_hearing()
                while True:
                    last = await self._hear(last, on_question)
            except RedisError as error:
                self.hears = False
                if not told:
                    log.error("limiter_questions_unheard", error=str(error), advice=advice(error))
                told = True
                self._following.fail(error)
            first, most = AGAIN_S
            await self._sleep(min(first * 2**tries, most))
            tries = min(tries + 1, 10)

    async def close(self) -> None:
        await self._following.close()

    async def _newest(self) -> str:
        """What was asked before is over, or will be asked again."""
        newest = await self._following.ask(WORKERS, ("XREVRANGE", ASKED, "+", "-", "COUNT", 1))
        return newest[0][0].decode() if newest else "0-0"

    async def _hear(self, last: str, on_question: Callable[[Question], object]) -> str:
        options = "COUNT", AT_ONCE, "BLOCK", int(BLOCK_S * 1000)
        answer = await self._following.ask(WORKERS, ("XREAD", *options, "STREAMS", ASKED, last))
        if not answer:
            newest = await self._newest()  # of a stream that began anew, under a clock that was set back
            return last if _number(newest) >= _number(last) else "0-0"
        for entry_id, fields in answer[0][1]:
            last = entry_id.decode()
            self._take(dict(zip(fields[::2], fields[1::2], strict=True)), on_question)
        return last

    def _take(self, fields: Mapping[bytes, bytes], on_question: Callable[[Question], object]) -> None:
        if worker := fields.get(b"joined"):
            self._roll.heard(worker.decode())
        elif worker := fields.get(b"left"):
            self._roll.left(worker.decode())
        elif (worker := fields.get(b"asked")) and worker.decode() != self._worker:
            self._roll.heard(worker.decode())
            try:
                project, day, asked = _decode(fields.get(b"of", b""))
            except msgspec.DecodeError:
                return  # of a version to come
            # What the budget is, is of no importance here.
            budgets = (
                Counter(name, "usd", 0, project, key, model, shadow, per) for name, key, model, shadow, per in asked
            )
            on_question(Question(project, day, tuple(budgets)))


_decode = msgspec.json.Decoder(tuple[str, str, list[tuple[str, str, str, bool, str]]]).decode


def _number(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


def nobody(project: str, live: object) -> Mapping[str, Sequence[Spending]]:
    """The rest, where all that is spent is spent by processes that say so."""
    return {}
