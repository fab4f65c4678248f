"""Which limits a call is held against, and what a caller who is over one is told; over the limiter in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.billing.periods import Days
from proxy.billing.records import from_usd
from proxy.config.limits import Limit, parse
from proxy.errors import RateLimited, Reason, Violation
from proxy.gateway import limiting
from proxy.gateway.in_flight import FREE_CALLS_AT_ONCE, free_calls
from proxy.gateway.limiting import Limits
from proxy.gemini import calls
from proxy.gemini.calls import Call
from proxy.limits.memory import MemoryLimiter
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy
from tests.billing.sample import sample

TEXT, IMAGE = "gemini-3.8-flash", "gemini-3.1-flash-image"
EVENING = int(datetime(2026, 11, 21, 23, 59, tzinfo=UTC).timestamp()) * 1_000_000
"""A minute before midnight."""


class Stand:
    """Limits over a limiter in memory, and the clock that both go by."""

    def __init__(self) -> None:
        self.now = EVENING
        self.metrics = Metrics("0", [TEXT, IMAGE])
        self.limiter = MemoryLimiter(lambda: self.now // 1000)
        self.limits = Limits(self.limiter, Days("UTC"), self.metrics, lambda: self.now, free_calls())
        self.calls = 0

    async def reserve(
        self, tenant: Tenant, model: str = TEXT, tokens: int = 10, images: int = 0, usd: str = "0"
    ) -> str:
        self.calls += 1
        lease_id = f"call {self.calls}"
        day = Days("UTC").name(self.now)
        of = limiting.holds(self.limits.applying(tenant, model), tokens, images, from_usd(usd))
        await self.limits.reserve(lease_id, day, of)
        return lease_id

    async def refused(
        self, tenant: Tenant, model: str = TEXT, tokens: int = 10, images: int = 0, usd: str = "0"
    ) -> RateLimited:
        with pytest.raises(RateLimited) as refusal:
            await self.reserve(tenant, model, tokens, images, usd)
        return refusal.value

    def settle(self, lease_id: str, usd: str, **changes: Any) -> None:
        """As a record that says so does."""
        of = {"project": "alice", "key_id": "key_1", "model": TEXT, "period": Days("UTC").name(self.now)} | changes
        self.limits.settle(sample(lease_id, cost_usd=from_usd(usd), **of))


@pytest.fixture
def stand() -> Stand:
    return Stand()


def limits(*texts: str) -> tuple[Limit, ...]:
    return tuple(parse(text) for text in texts)


def tenant(of_project: tuple[Limit, ...] = (), of_key: tuple[Limit, ...] = (), key_id: str = "key_1") -> Tenant:
    return Tenant("alice", key_id, "test", Policy(project_limits=of_project, key_limits=of_key))


def call(verb: str = "generateContent", model: str = TEXT) -> Call:
    return calls.parse("POST", f"/v1beta/models/{model}:{verb}".encode(), b"")


async def test_a_refusal_names_each_limit_its_value_and_when_to_come_back(stand: Stand) -> None:
    """In a sentence, in the words of Google's QuotaFailure, and as the longest of the true waits."""
    alice = tenant(limits("rpm=1"), limits("tpm=15"))
    await stand.reserve(alice)
    stand.now += 250_000
    refusal = await stand.refused(alice)
    assert refusal.message == (
        "Project alice is limited to 1 request per minute (rpm): 1 is taken. "
        "Key key_1 is limited to 15 prompt tokens per minute (tpm): 10 are taken, and this request needs 10. "
        "Please retry in 60.750s."
    )
    assert refusal.wait_ms == 60_750
    assert refusal.violations == (
        Violation("weighbridge/rpm", "RequestsPerMinutePerProject", {"project": "alice"}, 1),
        Violation("weighbridge/tpm", "InputTokensPerMinutePerKey", {"project": "alice", "key": "key_1"}, 15),
    )


async def test_a_day_is_waited_for_to_its_end(stand: Stand) -> None:
    """Midnight in the configured zone; then it counts from nothing."""
    alice = tenant(limits("rpd=1"))
    await stand.reserve(alice)
    refusal = await stand.refused(alice)
    assert refusal.wait_ms == 60_000
    stand.now += 60_000_000
    await stand.reserve(alice)


async def test_a_day_that_ended_while_redis_was_asked_is_not_waited_for_again(stand: Stand) -> None:
    """The refusal is of the day before; the new one has room."""
    alice = tenant(limits("rpd=1"))
    await stand.reserve(alice)
    holds = limiting.holds(stand.limits.applying(alice, TEXT), 10, 0, 0)
    stand.now += 60_000_000
    with pytest.raises(RateLimited) as refusal:
        await stand.limits.reserve("late", "2026-11-21", holds)
    assert refusal.value.wait_ms == 0


async def test_a_place_is_asked_for_again_after_a_second(stand: Stand) -> None:
    """Nobody knows when one will be free. It is, when a call is settled or cancelled."""
    alice = tenant(limits("concurrency=1"))
    first = await stand.reserve(alice)
    assert (await stand.refused(alice)).wait_ms == 1000
    stand.settle(first, "0")
    second = await stand.reserve(alice)
    stand.limits.cancel(second)
    await stand.reserve(alice)


async def test_what_no_wait_makes_fit_says_so(stand: Stand) -> None:
    """A prompt that alone is larger than the limit gets no time to come back at."""
    refusal = await stand.refused(tenant(limits("tpm=100", "rpm=0")), tokens=101)
    assert refusal.wait_ms is None
    assert "limited to 100 prompt tokens per minute (tpm), and this request alone needs 101." in refusal.message
    assert "retry" not in refusal.message


async def test_models_have_limits_of_their_own(stand: Stand) -> None:
    """A glob's limit counts its models' calls together, and no others."""
    alice = tenant(limits("ipm=2,model=*-image*"))
    await stand.reserve(alice, IMAGE, images=2)
    refusal = await stand.refused(alice, "gemini-3-pro-image", images=1)
    assert refusal.violations[0].id == "ImagesPerMinutePerProjectPerModel"
    assert refusal.violations[0].dimensions == {"project": "alice", "model": "*-image*"}
    await stand.reserve(alice, TEXT, images=1)


async def test_keys_share_their_projects_limits_and_have_their_own(stand: Stand) -> None:
    one, other = (tenant(limits("rpm=3"), limits("rpm=2"), key_id) for key_id in ("key_1", "key_2"))
    await stand.reserve(one)
    await stand.reserve(one)
    assert (await stand.refused(one)).violations[0].dimensions == {"project": "alice", "key": "key_1"}
    await stand.reserve(other)
    assert (await stand.refused(other)).violations[0].dimensions == {"project": "alice"}


async def test_who_is_known_to_be_over_is_refused_before_the_body(stand: Stand) -> None:
    """By what every call takes at least. A text is not refused for want of images."""
    alice = tenant(limits("rpm=2", "ipm=1"))
    stand.limits.refuse_known(call(), alice)
    await stand.reserve(alice, IMAGE, images=1)
    stand.limits.refuse_known(call(), alice)
    with pytest.raises(RateLimited, match="1 image per minute"):
        stand.limits.refuse_known(call(model=IMAGE), alice)
    await stand.reserve(alice)
    with pytest.raises(RateLimited, match="2 requests per minute"):
        stand.limits.refuse_known(call(), alice)
    stand.limits.refuse_known(call("countTokens"), alice)


async def test_a_shadow_limit_counts_what_it_would_have_refused(stand: Stand) -> None:
    alice = tenant(limits("rpm=1,shadow"))
    for _ in range(3):
        stand.limits.refuse_known(call(), alice)
        await stand.reserve(alice)
    assert b'weighbridge_shadow_refusals_total{limit="rpm",project="alice"} 2.0' in stand.metrics.exposition()


async def test_a_changed_policy_is_in_force_at_once_and_counts_on(stand: Stand) -> None:
    """What was taken under the old value counts against the new one."""
    await stand.reserve(tenant(limits("rpm=2")))
    assert (await stand.refused(tenant(limits("rpm=1")))).violations[0].value == 1
    await stand.reserve(tenant(limits("rpm=2")))


def test_models_that_nobody_has_take_no_memory_for_good(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may name any model: what is kept at hand has a bound."""
    monkeypatch.setattr(limiting, "REMEMBERED", 10)
    alice = tenant(limits("rpm=1"))
    for at in range(100):
        stand.limits.applying(alice, f"model-{at}")
    assert len(stand.limits._applying) <= 10


def test_a_key_with_so_many_free_calls_in_flight_is_refused_before_the_body(stand: Stand) -> None:
    for _ in range(FREE_CALLS_AT_ONCE):
        stand.limits.free_calls.begin(tenant())
    with pytest.raises(RateLimited, match="free operations"):
        stand.limits.refuse_known(call("countTokens"), tenant())
    stand.limits.refuse_known(call(), tenant())


async def test_of_2000_calls_on_either_side_of_midnight_the_days_limit_passes(stand: Stand) -> None:
    """Exactly, each day: by the clock that names the day, in the configured zone."""
    alice, passed = tenant(limits("rpd=50")), []
    for _ in range(2):
        outcomes = await asyncio.gather(*(stand.reserve(alice) for _ in range(2000)), return_exceptions=True)
        assert all(isinstance(outcome, str | RateLimited) for outcome in outcomes)
        passed.append(sum(isinstance(outcome, str) for outcome in outcomes))
        stand.now += 60_000_000
    assert passed == [50, 50]


async def test_what_only_others_hold_of_a_budget_is_to_be_asked_for_again(stand: Stand) -> None:
    """They may give it back: a second's wait, as nobody knows when. What they spent, they don't."""
    alice = tenant(limits("usd=1,per=day"))
    first = await stand.reserve(alice, usd="0.8")
    held = await stand.refused(alice, usd="0.5")
    assert (held.reason, held.wait_ms) == (Reason.BUDGET_HELD, 1000)
    assert held.message == (
        "Project alice has a budget of 1 USD per day: 0 USD are spent, 0.8 USD are held for requests in flight, "
        "and this request may cost 0.5 USD. Please retry in 1.000s."
    )
    assert held.violations == (Violation("weighbridge/usd", "UsdPerDayPerProject", {"project": "alice"}, "1"),)
    stand.settle(first, "0.6")
    spent = await stand.refused(alice, usd="0.5")
    assert (spent.reason, spent.wait_ms) == (Reason.BUDGET_EXCEEDED, None)
    assert spent.message == (
        "Project alice has a budget of 1 USD per day: 0.6 USD are spent, and this request may cost 0.5 USD. "
        "generationConfig.maxOutputTokens, in OpenAI's shape max_tokens, bounds what a request may cost."
    )
    await stand.reserve(alice, usd="0.4")


async def test_a_call_that_alone_is_over_the_budget_is_told_what_bounds_it(stand: Stand) -> None:
    refusal = await stand.refused(tenant((), limits("usd=2,per=total")), usd="3.93216")
    assert (refusal.reason, refusal.wait_ms) == (Reason.BUDGET_EXCEEDED, None)
    assert refusal.message == (
        "Key key_1 has a budget of 2 USD, and this request may cost 3.93216 USD by itself. "
        "generationConfig.maxOutputTokens, in OpenAI's shape max_tokens, bounds what a request may cost."
    )
    assert refusal.violations[0].id == "UsdPerKey"
    both = await stand.refused(tenant(limits("usd=1,per=day"), limits("usd=2,per=total")), usd="3.93216")
    assert both.message.count("maxOutputTokens") == 1


async def test_a_spent_budget_outweighs_limits_that_come_back_and_one_that_is_held_does_not_shorten_their_wait(
    stand: Stand,
) -> None:
    alice = tenant(limits("usd=1,per=month", "rpm=1"))
    first = await stand.reserve(alice, usd="0.9")
    held = await stand.refused(alice, usd="0.2")
    assert (held.reason, held.wait_ms) == (Reason.BUDGET_HELD, 61_000)
    stand.settle(first, "1")
    spent = await stand.refused(alice, usd="0.2")
    assert (spent.reason, spent.wait_ms) == (Reason.BUDGET_EXCEEDED, None)


async def test_whose_budget_is_spent_is_refused_before_the_body(stand: Stand) -> None:
    alice = tenant(limits("usd=1,per=month"))
    first = await stand.reserve(alice, usd="1")
    with pytest.raises(RateLimited) as held:
        stand.limits.refuse_known(call(), alice)
    assert held.value.reason is Reason.BUDGET_HELD
    stand.settle(first, "1")
    with pytest.raises(RateLimited) as spent:
        stand.limits.refuse_known(call(), alice)
    assert spent.value.message == "Project alice has a budget of 1 USD per month: 1 USD are spent."


async def test_a_budget_of_nothing_is_no_matter_of_a_cap(stand: Stand) -> None:
    alice = tenant(limits("usd=0,per=day"))
    with pytest.raises(RateLimited) as refusal:
        stand.limits.refuse_known(call(), alice)
    assert refusal.value.reason == Reason.BUDGET_EXCEEDED
    assert refusal.value.message == "Project alice has a budget of 0 USD per day: 0 USD are spent."
    assert "maxOutputTokens" not in (await stand.refused(alice, usd="0.01")).message


async def test_a_budget_counts_what_was_spent_before_it_was_set_and_by_calls_that_were_in_flight(stand: Stand) -> None:
    """And those of its key, of its models, and of its period."""
    without = tenant(limits("rpm=99"))
    spent, in_flight = await stand.reserve(without), await stand.reserve(without)
    stand.settle(spent, "0.3")
    stand.settle("of another key", "0.1", key_id="key_2")
    stand.settle("of another model", "0.05", model=IMAGE)
    stand.settle("of another month", "7", period="2026-10-31")
    alice = tenant(limits("usd=1,per=month"), limits("usd=1,per=month,model=*-image"))
    refusal = await stand.refused(alice, IMAGE, usd="0.99")
    assert "Project alice has a budget of 1 USD per month: 0.45 USD are spent" in refusal.message
    assert "Key key_1 has a budget of 1 USD per month for models *-image: 0.05 USD are spent" in refusal.message
    stand.settle(in_flight, "0.2")
    assert "0.65 USD are spent" in (await stand.refused(alice, usd="0.99")).message


async def test_a_budget_in_shadow_refuses_nobody(stand: Stand) -> None:
    alice = tenant(limits("usd=1,per=month,shadow"))
    await stand.reserve(alice, usd="2")
    assert not stand.limits.applying(alice, TEXT).budgeted
    assert b'weighbridge_shadow_refusals_total{limit="usd",project="alice"} 1.0' in stand.metrics.exposition()
