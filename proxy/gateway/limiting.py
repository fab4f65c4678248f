"""The limits of a call: which apply, what it takes of them, and what a caller who is over one is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from proxy.billing import estimates, recent
from proxy.billing.periods import Days
from proxy.billing.records import UsageRecord, to_usd
from proxy.errors import RateLimited, Reason, Violation
from proxy.gateway import in_flight
from proxy.gateway.in_flight import InFlight
from proxy.gemini.calls import Call
from proxy.limits.interface import Counter, Hold, Limiter, Over, Spent, counters
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
_BUDGETS = {"day": ("UsdPerDay", " per day"), "month": ("UsdPerMonth", " per month"), "total": ("Usd", "")}
_LEAST = 1
"""What every call takes of whatever limit, before more of it is known; of money, a nano-dollar."""


class Applying(NamedTuple):
    """The limits that a key's calls of one model are held against."""

    policy: Policy
    counters: tuple[Counter, ...]
    least: tuple[Hold, ...]
    """What every such call takes at least: known before its body is."""
    budgeted: bool
    """There is a budget among them that may refuse a call."""
    money: bool
    """There is a budget among them, in shadow or not."""


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

    def settle(self, record: UsageRecord) -> None:
        """Ends a call's lease, if it has one, by what its record says."""
        spent = Spent(record.project, record.key_id, record.model, record.period, record.cost_usd or 0)
        self._limiter.settle(record.record_id, recent.taken(record), spent)

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
        least = tuple(Hold(one, _LEAST) for one in found if not one.shadow and (image or one.kind != "ipm"))
        budgets = [one for one in found if one.per]
        budgeted = any(not one.shadow for one in budgets)
        made = self._applying[tenant.key_id, model] = Applying(policy, found, least, budgeted, bool(budgets))
        return made

    def _refusal(self, refused: Sequence[Over], day: str, now: int) -> RateLimited:
        waits = [self._wait_ms(over, day, now) for over in refused]
        known = [wait for wait in waits if wait is not None]
        wait_ms = max(known) if len(known) == len(waits) and known else None
        sentences = [_sentence(over) for over in refused]
        if any(over.amount > _LEAST and over.counter.value and _is_spent(over) for over in refused):
            sentences.append(
                "generationConfig.maxOutputTokens, in OpenAI's shape max_tokens, bounds what a request may cost."
            )
        message = " ".join(sentences)
        return RateLimited(message, tuple(_violation(over) for over in refused), wait_ms, _reason(refused))

    def _wait_ms(self, over: Over, day: str, now: int) -> int | None:
        """None where waiting doesn't help: the call alone is more than the limit allows. `day` was asked about."""
        if over.amount > over.counter.value or _is_spent(over):
            return None
        if over.counter.kind == "rpd":
            return -((now - self._days.end(now)) // 1000) if self._days.name(now) == day else 0
        return in_flight.WAIT_MS if over.wait_ms is None else over.wait_ms


def holds(applying: Applying, tokens: int, images: int, usd: int) -> list[Hold]:
    """What a call takes of each limit: estimates of its prompt's tokens, of images, and of nano-dollars."""
    amounts = {"tpm": tokens, "ipm": images, "usd": usd}
    return [Hold(one, amounts.get(one.kind, 1)) for one in applying.counters]


def _is_spent(over: Over) -> bool:
    """Whether a budget has no room for a call even if all that is only held is given back."""
    return bool(over.counter.per) and over.used - over.held + over.amount > over.counter.value


def _reason(refused: Sequence[Over]) -> Reason:
    if any(map(_is_spent, refused)):
        return Reason.BUDGET_EXCEEDED
    return Reason.BUDGET_HELD if any(over.counter.per for over in refused) else Reason.RATE_LIMITED


def _sentence(over: Over) -> str:
    if over.counter.per:
        return _budget_sentence(over)
    counter = over.counter
    whose = f"Key {counter.key_id}" if counter.key_id else f"Project {counter.project}"
    models = "" if counter.model == "*" else f" with models {counter.model}"
    unit = _UNITS[counter.kind][1].format(s="" if counter.value == 1 else "s")
    sentence = f"{whose} is limited to {counter.value} {unit}{models} ({counter.kind})"
    if over.amount > counter.value > 0:
        return f"{sentence}, and this request alone needs {over.amount}."
    needs = f", and this request needs {over.amount}" if over.amount > 1 else ""
    return f"{sentence}: {over.used} {'is' if over.used == 1 else 'are'} taken{needs}."


def _budget_sentence(over: Over) -> str:
    counter, needs = over.counter, f"this request may cost {to_usd(over.amount)} USD"
    whose = f"Key {counter.key_id}" if counter.key_id else f"Project {counter.project}"
    models = "" if counter.model == "*" else f" for models {counter.model}"
    sentence = f"{whose} has a budget of {to_usd(counter.value)} USD{_BUDGETS[counter.per][1]}{models}"
    if over.amount > counter.value > 0:
        return f"{sentence}, and {needs} by itself."
    said = f"{to_usd(over.used - over.held)} USD are spent"
    if over.held:
        said += f", {to_usd(over.held)} USD are held for requests in flight"
    return f"{sentence}: {said}{'' if over.amount <= _LEAST else f', and {needs}'}."


def _violation(over: Over) -> Violation:
    counter = over.counter
    dimensions = {"project": counter.project}
    if counter.key_id:
        dimensions["key"] = counter.key_id
    if counter.model != "*":
        dimensions["model"] = counter.model
    per = f"Per{'Key' if counter.key_id else 'Project'}{'' if counter.model == '*' else 'PerModel'}"
    if counter.per:
        return Violation("weighbridge/usd", f"{_BUDGETS[counter.per][0]}{per}", dimensions, to_usd(counter.value))
    return Violation(f"weighbridge/{counter.kind}", f"{_UNITS[counter.kind][0]}{per}", dimensions, counter.value)
