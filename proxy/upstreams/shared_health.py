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
from proxy.upstreams.health import PROBE_S, REMEMBERED, SAID, Health, News, Outage
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
        self._known: dict[Key, Known] = {}
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
        """Tells all others, sooner or later."""
        identity, over = self._identities().get(news.upstream), news.seconds is None
        if identity is None:
            return  # it is of a former configuration
        key = news.upstream, identity, news.model
        known, until = self._known.get(key) or Known(), self._health.now() + (news.seconds or 0.0)
        if over == known.over and (over or until < known.until + LITTLE_S):
            return
        number = next(self._numbers)
        known.mine, known.arrived, known.until, known.over = number, False, until, over
        self._make_room()
        self._known[key] = known
        if not self.away:
            self._stream.send(told_news.fields(news, identity, self._worker, number), self._lost)

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
        identity = self._identities().get(upstream, "")
        known = self._known.get((upstream, identity, name))
        if self.away or outage.why not in SAID or known is None or not known.entry:
            return True
        # Of this very outage: when it is over and the next one comes, nothing has to be removed first.
        claimed = f"{upstream}:{identity}:{name}:{known.entry}"
        try:
            async with asyncio.timeout(self._claim_s):
                return await self._stream.claim(claimed, self._worker, CLAIMED_MS)
        except TimeoutError:
            self._lost(exceptions.TimeoutError("Redis did not answer in time"))
        except RedisError as error:
            self._lost(error)
        return True

    def _outage(self, upstream: str, model: str) -> tuple[str, Outage] | None:
        """What keeps a model's calls from an upstream, and for which model that is told."""
        outage = self._health.outage(upstream, model)
        return next(((name, one) for name, one in self._health.outages(upstream) if one is outage), None)

    async def _return(self) -> None:
        """Raises RedisError where Redis isn't back."""
        await self._stream.connect()
        self._forget_over()
        for known in self._known.values():
            known.entry = ""
        await self._hear(await self._stream.read())
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

    def _forget_over(self) -> None:
        """What ended while Redis was away is told to nobody, who by now may know better."""
        self._known = {key: known for key, known in self._known.items() if not known.over}

    async def _tell_again(self, key: Key, known: Known) -> None:
        """Tells what has not arrived, or was lost. Raises RedisError."""
        upstream, identity, of = key
        outage = next((outage for model, outage in self._health.outages(upstream) if model == of), None)
        left = known.until - self._health.now()
        if (known.arrived and known.entry) or outage is None or outage.why not in SAID or left < 0:
            return
        if identity == self._identities().get(upstream):
            news = News(upstream, of, outage.why, left, outage.exhausted)
            await self._stream.add(told_news.fields(news, identity, self._worker, known.mine or 0))

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
            if news.seconds is not None:
                self._known[key].until = max(self._known[key].until, self._health.now() + news.seconds)
            elif self._known[key].arrived:
                del self._known[key]
            self._health.heard(news)

    def _make_room(self) -> None:
        """A caller may name any model. Of what Health has forgotten, nothing need be known."""
        if len(self._known) > 2 * REMEMBERED:
            there = {
                (name, identity, model)
                for name, identity in self._identities().items()
                for model, _ in self._health.outages(name)
            }
            self._known = {key: known for key, known in self._known.items() if key in there}

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

    def _lost(self, error: RedisError) -> None:
        """Redis is away from now on, and will be asked again soon."""
        if not self._told_away:
            self._told_away = True
            log.error("upstream_news_away", error=str(error), advice=advice(error))
        self.away = True
        self._stream.fail(error)
