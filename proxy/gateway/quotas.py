"""Upstreams' own quotas, reserved like a tenant's limits: known walls aren't hit, whichever worker found them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from proxy.billing import estimates
from proxy.billing.periods import GOOGLES_ZONE, Days
from proxy.config.quotas import SPEND, Quota
from proxy.config.upstreams import Upstream
from proxy.limits.interface import WINDOWS, Counter, Hold, Limiter, Over, of_upstream

REMEMBERED = 10_000
"""Spellings of models whose counters are kept at hand. A caller may name any model."""
COUNTED = 200
"""Models of an upstream that have counters of their own in this process: more than anybody has in earnest. The others
share theirs, or callers who make up names could have Redis keep any number of counters."""
OTHERS = "(others)"
"""In place of their model: a name that none has."""

_LEAST = 1
"""What every attempt takes of a counter at least; of money, a nano-dollar."""


class Used(NamedTuple):
    """What is taken of one counter of an upstream. Of `usd_per_10min`, whose model is "*", nano-dollars."""

    kind: str
    model: str
    used: int
    value: int


class _Applying(NamedTuple):
    """The counters that attempts with one model are held against, and what each such attempt takes at least."""

    counters: tuple[Counter, ...]
    least: tuple[Hold, ...]


class _Limited:
    """One upstream that has a quota."""

    def __init__(self, name: str, quota: Quota, known: Collection[str]) -> None:
        self._project = of_upstream(name)
        self._quota = quota
        self._known = known
        self._spend = () if quota.spend is None else (self._counter(SPEND, quota.spend),)
        self._counted: dict[str, tuple[Counter, ...]] = {}
        self._applying: dict[str, _Applying] = {}

    @property
    def counters(self) -> list[Counter]:
        """All of those models that this process has met."""
        return [*self._spend, *(counter for of_model in self._counted.values() for counter in of_model)]

    def applying(self, model: str) -> _Applying:
        """Worked out once for a model."""
        known = self._applying.get(model)
        if known is not None:
            return known
        if len(self._applying) >= REMEMBERED:
            self._applying.clear()
        counters = (*self._of_model(model), *self._spend)
        image = estimates.names_images(model)
        least = tuple(Hold(one, _LEAST) for one in counters if image or one.kind != "ipm")
        made = self._applying[model] = _Applying(counters, least)
        return made

    def _of_model(self, model: str) -> tuple[Counter, ...]:
        """However it is spelt: nobody knows whether Google tells capitals from small letters."""
        name = model.lower()
        if name not in self._counted and name not in self._known and len(self._counted) >= COUNTED:
            name = OTHERS
        if name not in self._counted:
            values = self._quota.of(model)
            self._counted[name] = tuple(self._counter(kind, value, name) for kind, value in values.items())
        return self._counted[name]

    def _counter(self, kind: str, value: int, model: str | None = None) -> Counter:
        """Without a model, over all of them."""
        name = f"{{{self._project}}}:{kind}"
        if model is None:
            return Counter(name, kind, value, self._project)
        return Counter(f"{name}:{model}", kind, value, self._project, model=model)


class Quotas:
    """The quotas of a configuration's upstreams, in the limiter that they share with all tenants.

    One attempt of a call is one lease: its id is `<record_id>.<number of the attempt, from 1>`. It is reserved before
    the attempt goes up, and then settled, or cancelled where nothing was sent. An upstream that isn't `limited` costs
    nothing; nobody need ask of it.
    """

    def __init__(
        self, limiter: Limiter, upstreams: Iterable[Upstream], now: Callable[[], int], models: Iterable[str] = ()
    ) -> None:
        """`now` is the worker's clock, in Unix microseconds: it names Google's day. `models` have counters of their
        own, however many others are made up."""
        self._limiter = limiter
        theirs = frozenset(model.lower() for model in models)
        self._limited = {one.name: _Limited(one.name, one.limits, theirs) for one in upstreams if one.limits}
        self._days = Days(GOOGLES_ZONE)
        self._now = now
        self.cancel = limiter.cancel
        """Gives back what the lease of this id took: nothing of the attempt was sent. Returns at once."""

    def limited(self, upstream: str) -> bool:
        """Whether an upstream has a quota at all."""
        return upstream in self._limited

    def known_wait_ms(self, upstream: str, model: str) -> int | None:
        """How long it will have no room for any call of a model, as far as that is known without asking; else None."""
        limited = self._limited.get(upstream)
        if limited is None:
            return None
        now = self._now()
        over = self._limiter.over(self._days.name(now), limited.applying(model).least)
        return self._wait_ms(over, now) if over else None

    async def reserve(self, lease_id: str, upstream: str, model: str, tokens: int, images: int, usd: int) -> int | None:
        """Takes all that an attempt will probably need, or nothing: None where there was room, else the wait in ms.

        `usd` is nano-dollars. Raises ProxyRefused LIMITER_UNAVAILABLE.
        """
        limited = self._limited.get(upstream)
        if limited is None or not (counters := limited.applying(model).counters):
            return None
        if (wait_ms := self.known_wait_ms(upstream, model)) is not None:
            return wait_ms
        amounts = {"tpm": tokens, "ipm": images, SPEND: usd}
        holds = [Hold(one, amounts.get(one.kind, 1)) for one in counters]
        now = self._now()
        verdict = await self._limiter.reserve(lease_id, self._days.name(now), holds)
        return None if verdict.granted else self._wait_ms(verdict.refused, now)

    def settle(self, lease_id: str, tokens: int | None, images: int | None, usd: int | None) -> None:
        """Ends an attempt with what it took: nothing (0) where the upstream refused it; None: the estimate stands."""
        taken = {"tpm": tokens, "ipm": images, SPEND: usd}
        self._limiter.settle(lease_id, {kind: amount for kind, amount in taken.items() if amount is not None})

    async def used(self, upstream: str) -> list[Used]:
        """What is taken of an upstream's quota, of those models that this process has met.

        Raises ProxyRefused LIMITER_UNAVAILABLE.
        """
        limited = self._limited.get(upstream)
        if limited is None or not (counters := limited.counters):
            return []
        taken = await self._limiter.used(self._days.name(self._now()), counters)
        return [Used(one.kind, one.model, of.used, one.value) for one, of in zip(counters, taken, strict=True)]

    def _wait_ms(self, refused: Iterable[Over], now: int) -> int:
        """Until there is room in all of them; at least 1. `now` is when they were asked."""
        return max((self._until_room_ms(over, now) for over in refused), default=1)

    def _until_room_ms(self, over: Over, now: int) -> int:
        if over.counter.kind == "rpd":
            return -((now - self._days.end(now)) // 1000)
        # Larger than the quota by itself: no wait helps, and whoever comes back is told the same.
        return max(1, WINDOWS[over.counter.kind] * 1000 if over.wait_ms is None else over.wait_ms)
