"""Outages of upstreams, shared through Redis: what one process finds out, all know; and only one probes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from redis import exceptions
from redis.exceptions import RedisError

from proxy.store.redis import Redis
from proxy.store.redis_advice import advice
from proxy.store.redis_stream import Value
from proxy.upstreams import news as told_news
from proxy.upstreams.health import PROBE_S, SAID, Health, News, Outage
from proxy.upstreams.news import Entry, Key
from proxy.upstreams.upstream import Upstream

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

TAG = "@upstreams"  # a name that no project can have
NEWS = f"wb:{{{TAG}}}:news"
PROBE = f"wb:{{{TAG}}}:probe"
KEPT = 1000
"""Entries of the stream, or some more: Redis removes them by the hundred."""
KEPT_S = 26 * 3600
"""How long the stream stays after its last entry: longer than any outage."""
BLOCK_S = 2.0
"""How long Redis holds back the answer to who asks for news, while there is none."""
FOLLOW_TIMEOUT_S = BLOCK_S + 1.0
CLAIM_S = 0.5
"""How long a call waits for the answer to its claim."""
CLAIMED_MS = int(PROBE_S * 1000) - 200
"""A bit shorter than others wait for what a probe finds out, so that the next claim finds it gone."""
AGAIN_S = 0.5, 5.0
"""How long Redis is left alone when it is away: at first, and, each time twice as long, at most."""
AT_ONCE = 100
"""Entries that are read at once."""
LITTLE_S = 0.25
"""An outage that becomes so little longer is no news: each answer that was under way makes it so."""


@dataclass(slots=True)
class Known:
    """What the stream says of an outage, as far as this process knows."""

    entry: str = ""
    """The last entry that was read; empty where there is none, or Redis has lost it."""
    until: float = 0.0
    """As last told, by this process or another, on this process's clock."""
    over: bool = True
    mine: int | None = None
    """The number of this process's own last news, where nobody told anything since."""
    arrived: bool = True
    """Whether that was read in the stream."""


class SharedHealth:
    """Tells what this process's Health finds out, and what others told to it. Nothing of it is ever waited for by a
    call, but for the claim of a probe; and while Redis is away, each process goes by what it finds out alone.

    All news go through one stream, whose order is the same for everybody: the last one counts.
    """

    def __init__(
        self,
        redis: Redis,
        following: Redis,
        health: Health,
        upstreams: Callable[[], Iterable[Upstream]],
        worker: str,
        *,
        claim_s: float = CLAIM_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`following` is another way to the same Redis, for what blocks there: with FOLLOW_TIMEOUT_S. `upstreams` are
        those in use; `worker` is a name that no other process has, nor had."""
        self.away = True
        self._redis = redis
        self._following = following
        self._health = health
        self._upstreams = upstreams
        self._worker = worker
        self._claim_s = claim_s
        self._sleep = sleep
        self._numbers = itertools.count()
        self._known: dict[Key, Known] = {}
        self._last = "0-0"
        self._told_away = False
        health.on_news = self.tell

    async def start(self) -> None:
        """Takes in what others have told so far. Where Redis is away, `follow` does that when it is back."""
        try:
            await self._return()
        except RedisError as error:
            self._lost(error)

    async def follow(self) -> None:
        """Takes in what others tell, for ever."""
        tries = 0
        while True:
            try:
                if self.away:
                    await self._return()
                    tries = 0
                while not self.away:
                    await self._read_on()
            except RedisError as error:
                self._lost(error)
            except Exception as error:  # whatever it is, this process goes on alone, and tries again
                if not self._told_away:
                    log.exception("upstream_news_unreadable")
                self._lost(exceptions.RedisError(repr(error)))
            first, most = AGAIN_S
            await self._sleep(min(first * 2**tries, most))
            tries = min(tries + 1, 10)

    async def close(self) -> None:
        """Has what was told arrive, and lets the connections go."""
        try:
            if not self.away:
                await self._redis.drain()
        except RedisError:
            pass
        await self._redis.close()
        await self._following.close()

    def tell(self, news: News) -> None:
        """Tells all others, sooner or later."""
        key, over = (news.upstream, news.model), news.seconds is None
        known, until = self._known.get(key) or Known(), self._health.now() + (news.seconds or 0.0)
        if over == known.over and (over or until < known.until + LITTLE_S):
            return
        if commands := self._commands(news, number := next(self._numbers)):
            known.mine, known.arrived, known.until, known.over = number, False, until, over
            self._known[key] = known
            for command in () if self.away else commands:
                self._redis.send(TAG, command, self._answered)

    async def claim(self, upstream: str, model: str) -> bool:
        """Whether this process may send a call to an upstream whose time is over: yes for the first of all who ask.

        Yes, too, where Redis can't say.
        """
        found = self._outage(upstream, model)
        if found is None:
            return True  # somebody else has found out since
        name, outage = found
        if self._health.now() < outage.until:
            return False  # likewise
        identity, known = self._identities().get(upstream), self._known.get((upstream, name))
        if self.away or outage.why not in SAID or identity is None or known is None or not known.entry:
            return True
        # Of this very outage: when it is over and the next one comes, nothing has to be removed first.
        key = f"{PROBE}:{upstream}:{identity}:{name}:{known.entry}".encode(errors="surrogatepass")
        try:
            async with asyncio.timeout(self._claim_s):
                answer = await self._redis.ask(TAG, ("SET", key, self._worker, "NX", "PX", CLAIMED_MS))
        except TimeoutError:
            self._lost(exceptions.TimeoutError("Redis did not answer in time"))
            return True
        except RedisError as error:
            self._lost(error)
            return True
        return answer is not None

    def _outage(self, upstream: str, model: str) -> tuple[str, Outage] | None:
        """What keeps a model's calls from an upstream, and for which model that is told."""
        outage = self._health.outage(upstream, model)
        return next(((name, one) for name, one in self._health.outages(upstream) if one is outage), None)

    async def _return(self) -> None:
        """Raises RedisError where Redis isn't back."""
        await self._redis.connect()
        await self._following.connect()
        # A write: a replica and a full Redis refuse it.
        await self._redis.ask(TAG, ("SET", PROBE, 1, "EX", 60))
        await self._catch_up()
        told: set[int | None] = {None}
        while owed := [item for item in self._known.items() if item[1].mine not in told]:
            for key, known in owed:
                told.add(known.mine)
                await self._tell_again(key, known)
        # Nothing is awaited from here on: what is told now is sent.
        self.away = False
        self._forget_over()
        if self._told_away:
            self._told_away = False
            log.info("upstream_news_back")

    async def _catch_up(self) -> None:
        """Takes in all of the stream: it may not be the one that it was, but emptied, or of a replica that knew less.

        Raises RedisError.
        """
        self._forget_over()
        for known in self._known.values():
            known.entry = ""
        self._last, entries = "0-0", []
        while True:  # by and by: there may be a megabyte
            some = await self._redis.ask(TAG, ("XRANGE", NEWS, f"({self._last}", "+", "COUNT", AT_ONCE))
            entries += self._entries(some)
            if len(some) < AT_ONCE:
                break
        await self._hear(entries)

    def _forget_over(self) -> None:
        """What ended while Redis was away is told to nobody, who by now may know better."""
        self._known = {key: known for key, known in self._known.items() if not known.over}

    async def _tell_again(self, key: Key, known: Known) -> None:
        """Tells what has not arrived, or was lost. Raises RedisError."""
        outage = next((outage for model, outage in self._health.outages(key[0]) if model == key[1]), None)
        left = known.until - self._health.now()
        if (known.arrived and known.entry) or outage is None or outage.why not in SAID or left < 0:
            return
        for command in self._commands(News(*key, outage.why, left, outage.exhausted), known.mine or 0):
            await self._redis.ask(TAG, command)

    def _commands(self, news: News, number: int) -> list[tuple[Value, ...]]:
        """What tells it; nothing, where the upstream is of a former configuration."""
        identity = self._identities().get(news.upstream)
        if identity is None:
            return []
        fields = told_news.fields(news, identity, self._worker, number)
        return [("XADD", NEWS, "MAXLEN", "~", KEPT, "*", *fields), ("EXPIRE", NEWS, KEPT_S)]

    async def _read_on(self) -> None:
        """Raises RedisError."""
        wait = "COUNT", AT_ONCE, "BLOCK", int(BLOCK_S * 1000)
        answer = await self._following.ask(TAG, ("XREAD", *wait, "STREAMS", NEWS, self._last))
        if answer:
            await self._hear(self._entries(answer[0][1]))

    def _entries(self, answer: list[Any]) -> list[Entry]:
        """Those of upstreams that are in use."""
        if not answer:
            return []
        self._last = answer[-1][0].decode()
        identities, read = self._identities(), (told_news.read(*entry) for entry in answer)
        return [entry for entry in read if entry and identities.get(entry.news.upstream) == entry.identity]

    async def _hear(self, entries: list[Entry]) -> None:
        """Raises RedisError."""
        if not entries:
            return
        # Asked after they came: however long they were under way, their age is known, by the clock that dated them.
        seconds, microseconds = await self._redis.ask(TAG, ("TIME",))
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        for key, news in told_news.fold(filter(self._counts, entries), now_ms).items():
            if news.seconds is not None:
                self._known[key].until = max(self._known[key].until, self._health.now() + news.seconds)
            elif self._known[key].arrived:
                del self._known[key]
            self._health.heard(news)

    def _counts(self, entry: Entry) -> bool:
        """Notes an entry. Whether it says anything that this process doesn't know better."""
        known = self._known.setdefault(entry.key, Known())
        known.entry = entry.id
        mine = entry.worker == self._worker
        if mine and entry.number == known.mine:
            known.arrived = True
        if mine or not known.arrived:
            # What this process has told comes later in the stream, and is what counts there.
            return entry.over == known.over
        known.mine, known.over = None, entry.over
        return True

    def _identities(self) -> dict[str, str]:
        return {upstream.name: upstream.identity for upstream in self._upstreams()}

    def _answered(self, answer: Any) -> None:
        if isinstance(answer, RedisError):
            self._lost(answer)

    def _lost(self, error: RedisError) -> None:
        """Redis is away from now on, and will be asked again soon."""
        if not self._told_away:
            self._told_away = True
            log.error("upstream_news_away", error=str(error), advice=advice(error))
        self.away = True
        self._redis.fail(error)
        self._following.fail(error)
