"""Outages of upstreams, shared through Redis: what one process finds out, all know; and only one probes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog
from redis import exceptions
from redis.exceptions import RedisError

from proxy.store.redis_advice import advice
from proxy.upstreams import news as told_news
from proxy.upstreams.health import ALL_MODELS, PROBE_S, REMEMBERED, SAID, Health, News
from proxy.upstreams.news import Entry, Key
from proxy.upstreams.news_stream import NewsStream
from proxy.upstreams.upstream import Upstream

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

CLAIM_S = 0.5
"""How long a call waits for the answer to its claim."""
CLAIMED_MS = int(PROBE_S * 1000) - 200
"""A bit shorter than others wait for what a probe finds out, so that the next claim finds it gone."""
AGAIN_S = 0.5, 5.0
"""How long Redis is left alone when it is away: at first, and, each time twice as long, at most."""
LITTLE_S = 0.25
"""An outage that becomes so little longer is no news: each answer that was under way makes it so."""


@dataclass(slots=True)
class Told:
    """What was told last of an outage, since Redis was there last."""

    entry: str = ""
    """The last one in the stream that was read."""
    until: float = 0.0
    """On this process's clock."""
    over: bool = True
    number: int | None = None
    """Of this process's own news; None where another told the last."""
    unread: bool = False
    """Whether these are still to come in the stream."""


class SharedHealth:
    """Tells what this process's Health finds out, and what others told to it. Nothing of it is ever waited for by a
    call, but for the claim of a probe; and while Redis is away, each process goes by what it finds out alone.

    All news go through one stream, whose order is the same for everybody: the last one counts.
    """

    def __init__(
        self,
        stream: NewsStream,
        health: Health,
        upstreams: Callable[[], Iterable[Upstream]],
        worker: str,
        *,
        claim_s: float = CLAIM_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`upstreams` are those in use; `worker` is a name that no other process has, nor had."""
        self.away = True
        self._stream = stream
        self._health = health
        self._upstreams = upstreams
        self._worker = worker
        self._claim_s = claim_s
        self._sleep = sleep
        self._numbers = itertools.count()
        self._told: dict[Key, Told] = {}
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
                    await self._hear(await self._stream.wait())
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
                await self._stream.drain()
        except RedisError:
            pass
        await self._stream.close()

    def tell(self, news: News) -> None:
        """Tells all others, at once or when Redis is back."""
        identity, over = self._identities().get(news.upstream), news.seconds is None
        if identity is None:
            return  # it is of a former configuration
        key = news.upstream, identity, news.model
        told, until = self._told.get(key) or Told(), self._health.now() + (news.seconds or 0.0)
        if not over and not told.over and until < told.until + LITTLE_S:
            return
        told.number, told.unread = next(self._numbers), True
        told.until, told.over = until, over
        self._make_room()
        self._told[key] = told
        if not self.away:
            self._stream.send(told_news.fields(news, identity, self._worker, told.number), self._lost)

    async def claim(self, upstream: str, model: str) -> bool:
        """Whether this process may send a call to an upstream whose time is over: yes for the first of all who ask.

        Yes, too, where Redis can't say.
        """
        outage = self._health.outage(upstream, model)
        if outage is None:
            return True  # somebody else has found out since
        if self._health.now() < outage.until:
            return False  # likewise
        claimed = self._claimed(upstream, model)
        if self.away or not claimed:
            return True
        try:
            async with asyncio.timeout(self._claim_s):
                return await self._stream.claim(claimed, self._worker, CLAIMED_MS)
        except TimeoutError:
            self._lost(exceptions.TimeoutError("Redis did not answer in time"))
        except RedisError as error:
            self._lost(error)
        return True

    def release(self, upstream: str, model: str) -> None:
        """What `claim` allowed came to nothing: the next one who asks may. Waits for nobody."""
        claimed = self._claimed(upstream, model)
        if claimed and not self.away:
            self._stream.unclaim(claimed, self._lost)

    def _claimed(self, upstream: str, model: str) -> str:
        """The name of a claim: of one very outage, so that nothing has to be removed before the next. "" where the
        outage isn't one that others know of."""
        outage = self._health.outage(upstream, model)
        name = ALL_MODELS if outage is self._health.outage(upstream, ALL_MODELS) else model
        identity = self._identities().get(upstream, "")
        told = self._told.get((upstream, identity, name))
        if outage is None or outage.why not in SAID or told is None or not told.entry:
            return ""
        return f"{upstream}:{identity}:{name}:{told.entry}"

    async def _return(self) -> None:
        """Tells what this process found out and is still so, for Redis may have lost it, or never had it; then takes in
        all that is there. What ended meanwhile is told to nobody, who by now may know better.

        Raises RedisError where Redis isn't back.
        """
        await self._stream.connect()
        mine = {key for key, told in self._told.items() if told.number is not None}
        self._told.clear()
        self.away = False
        for upstream in self._upstreams():
            for model, outage in self._health.outages(upstream.name):
                left = outage.until - self._health.now()
                if (upstream.name, upstream.identity, model) in mine and outage.why in SAID and left > 0:
                    self.tell(News(upstream.name, model, outage.why, left, outage.exhausted))
        await self._hear(await self._stream.read())
        if self._told_away and not self.away:
            self._told_away = False
            log.info("upstream_news_back")

    async def _hear(self, entries: list[Entry]) -> None:
        """Takes in entries. Raises RedisError."""
        self._make_room()
        identities = self._identities()
        entries = [entry for entry in entries if identities.get(entry.news.upstream) == entry.identity]
        if not entries:
            return
        # Asked after they came: however long they were under way, their age is known, by the clock that dated them.
        now_ms = await self._stream.now_ms()
        for key, news in told_news.fold(filter(self._counts, entries), now_ms).items():
            told = self._told[key]
            if news.seconds is not None:
                told.until = max(told.until, self._health.now() + news.seconds)
            elif not told.unread:
                del self._told[key]
            self._health.heard(news)

    def _make_room(self) -> None:
        """A caller may name any model. Of what Health has forgotten, nothing need be known."""
        if len(self._told) > 2 * REMEMBERED:
            there = {
                (name, identity, model)
                for name, identity in self._identities().items()
                for model, _ in self._health.outages(name)
            }
            self._told = {key: known for key, known in self._told.items() if key in there}

    def _counts(self, entry: Entry) -> bool:
        """Notes an entry. Whether it says anything that this process doesn't know better."""
        told = self._told.setdefault(entry.key, Told())
        told.entry = entry.id
        mine, counts = entry.worker == self._worker, True
        if told.unread:
            # This process's own news come later in the stream, or are these, and are what counts there.
            told.unread = not (mine and entry.number == told.number)
            counts = entry.over == told.over
        elif not mine:
            told.number, told.over = None, entry.over
        return counts and (entry.over or not mine)  # an outage that it told of itself it knows, to the millisecond

    def _identities(self) -> dict[str, str]:
        return {upstream.name: upstream.identity for upstream in self._upstreams()}

    def _lost(self, error: RedisError) -> None:
        """Redis is away from now on, and will be asked again soon."""
        if not self._told_away:
            self._told_away = True
            log.error("upstream_news_away", error=str(error), advice=advice(error))
        self.away = True
        self._stream.fail(error)
