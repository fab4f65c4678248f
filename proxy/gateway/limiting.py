"""The limits of a call: which apply, what it takes of them, and what a caller who is over one is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from proxy.billing import estimates
from proxy.billing.periods import Days
from proxy.errors import RateLimited, Violation
from proxy.gateway import in_flight
from proxy.gateway.in_flight import InFlight
from proxy.gemini.calls import Call
from proxy.limits.interface import Counter, Hold, Limiter, Over, counters
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy

REMEMBERED = 10_000
"""Pairs of key and model whose limits are kept at hand. A caller may name any model."""

_UNITS = {
    "rpm": ("RequestsPerMinute", "request{s} per minute"),
    "tpm": ("InputTokensPerMinute", "prompt token{s} per minute"),
    "rpd": ("RequestsPerDay", "request{s} per day"),
    "ipm": ("ImagesPerMinute", "image{s} per minute"),
    "concurrency": ("ConcurrentRequests", "request{s} at once"),
}
"""How Google would name a quota of that kind, and what people call it. Clients look for PerMinute and PerDay in it."""


class Applying(NamedTuple):
    """The limits that a key's calls of one model are held against."""

    policy: Policy
    counters: tuple[Counter, ...]
    least: tuple[Hold, ...]
    """What every such call takes at least: known before its body is."""


class Limits:
    """What all calls share of limiting: reserve before a call, settle or cancel after it."""

    def __init__(
        self, limiter: Limiter, days: Days, metrics: Metrics, now: Callable[[], int], free_calls: InFlight
    ) -> None:
        """`now` is the worker's clock, in Unix microseconds: it names the day. `free_calls` has those under every
        configuration that is in force yet."""
        self._limiter = limiter
        self._days = days
        self._metrics = metrics
        self._now = now
        self._applying: dict[tuple[str, str], Applying] = {}
        self.free_calls = free_calls
        self.settle = limiter.settle
        self.cancel = limiter.cancel

    def refuse_known(self, call: Call, tenant: Tenant) -> None:
        """Refuses who is known to be over a limit, before the request's body is taken in. Raises RateLimited."""
        if not call.operation.metered:
            self.free_calls.refuse_full(tenant)
        elif least := self.applying(tenant, call.model).least:
            now = self._now()
            day = self._days.name(now)
            if over := self._limiter.over(day, least):
                raise self._refusal(over, day, now)

    def holds(self, tenant: Tenant, model: str, tokens: int, images: int) -> list[Hold]:
        """What a call takes of each limit that applies to it. `tokens` of the prompt and `images` are estimates."""
        amounts = {"tpm": tokens, "ipm": images}
        return [Hold(one, amounts.get(one.kind, 1)) for one in self.applying(tenant, model).counters]

    async def reserve(self, lease_id: str, day: str, holds: Sequence[Hold]) -> None:
        """Takes all that a call holds, or nothing. Raises RateLimited, ProxyRefused LIMITER_UNAVAILABLE."""
        verdict = await self._limiter.reserve(lease_id, day, holds)
        for over in verdict.shadowed:
            self._metrics.shadow_refused(over.counter.project, over.counter.kind)
        if not verdict.granted:
            raise self._refusal(verdict.refused, day, self._now())

    def applying(self, tenant: Tenant, model: str) -> Applying:
        """Worked out once for a key and a model, and again when the key's policy has changed."""
        known = self._applying.get((tenant.key_id, model))
        if known is not None and known.policy is tenant.policy:
            return known
        policy = tenant.policy
        if len(self._applying) >= REMEMBERED:
            self._applying.clear()
        every = counters(tenant.project, tenant.key_id, policy.project_limits, policy.key_limits)
        found = tuple(one for one in every if one.applies(model))
        image = estimates.names_images(model)
        least = tuple(Hold(one, 1) for one in found if not one.shadow and (image or one.kind != "ipm"))
        made = self._applying[tenant.key_id, model] = Applying(policy, found, least)
        return made

    def _refusal(self, refused: Sequence[Over], day: str, now: int) -> RateLimited:
        waits = [self._wait_ms(over, day, now) for over in refused]
        known = [wait for wait in waits if wait is not None]
        wait_ms = max(known) if len(known) == len(waits) and known else None
        message = " ".join(_sentence(over) for over in refused)
        return RateLimited(message, tuple(_violation(over) for over in refused), wait_ms)

    def _wait_ms(self, over: Over, day: str, now: int) -> int | None:
        """None where waiting doesn't help: the call alone is more than the limit allows. `day` was asked about."""
        if over.amount > over.counter.value:
            return None
        if over.counter.kind == "rpd":
            return -((now - self._days.end(now)) // 1000) if self._days.name(now) == day else 0
        return in_flight.WAIT_MS if over.wait_ms is None else over.wait_ms


def _sentence(over: Over) -> str:
    counter = over.counter
    whose = f"Key {counter.key_id}" if counter.key_id else f"Project {counter.project}"
    models = "" if counter.model == "*" else f" with models {counter.model}"
    unit = _UNITS[counter.kind][1].format(s="" if counter.value == 1 else "s")
    sentence = f"{whose} is limited to {counter.value} {unit}{models} ({counter.kind})"
    if over.amount > counter.value:
        return f"{sentence}, and this request alone needs {over.amount}."
    needs = f", and this request needs {over.amount}" if over.amount > 1 else ""
    return f"{sentence}: {over.used} {'is' if over.used == 1 else 'are'} taken{needs}."


def _violation(over: Over) -> Violation:
    counter = over.counter
    dimensions = {"project": counter.project}
    if counter.key_id:
        dimensions["key"] = counter.key_id
    if counter.model != "*":
        dimensions["model"] = counter.model
    per = f"Per{'Key' if counter.key_id else 'Project'}{'' if counter.model == '*' else 'PerModel'}"
    return Violation(f"weighbridge/{counter.kind}", f"{_UNITS[counter.kind][0]}{per}", dimensions, counter.value)
