"""Which limits a call is held against, and what a caller who is over one is told; over the limiter in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from proxy.billing.periods import Days
from proxy.config.limits import Limit, parse
from proxy.errors import RateLimited, Violation
from proxy.gateway import limiting
from proxy.gateway.in_flight import FREE_CALLS_AT_ONCE, free_calls
from proxy.gateway.limiting import Limits
from proxy.gemini import calls
from proxy.gemini.calls import Call
from proxy.limits.memory import MemoryLimiter
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy

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

    async def reserve(self, tenant: Tenant, model: str = TEXT, tokens: int = 10, images: int = 0) -> str:
        self.calls += 1
        lease_id = f"call {self.calls}"
        day = Days("UTC").name(self.now)
        await self.limits.reserve(lease_id, day, self.limits.holds(tenant, model, tokens, images))
        return lease_id

    async def refused(self, tenant: Tenant, model: str = TEXT, tokens: int = 10, images: int = 0) -> RateLimited:
        with pytest.raises(RateLimited) as refusal:
            await self.reserve(tenant, model, tokens, images)
        return refusal.value


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
    holds = stand.limits.holds(alice, TEXT, 10, 0)
    stand.now += 60_000_000
    with pytest.raises(RateLimited) as refusal:
        await stand.limits.reserve("late", "2026-11-21", holds)
    assert refusal.value.wait_ms == 0


async def test_a_place_is_asked_for_again_after_a_second(stand: Stand) -> None:
    """Nobody knows when one will be free. It is, when a call is settled or cancelled."""
    alice = tenant(limits("concurrency=1"))
    first = await stand.reserve(alice)
    assert (await stand.refused(alice)).wait_ms == 1000
    stand.limits.settle(first, {})
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
