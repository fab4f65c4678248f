"""Upstreams' own quotas: what an attempt is held against, how long to wait, what becomes of it; also in Redis."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from proxy.config.redis_address import parse
from proxy.config.upstreams import Upstream
from proxy.errors import ProxyRefused, Reason
from proxy.gateway.quotas import COUNTED, OTHERS, REMEMBERED, Quotas, Used
from proxy.limits.memory import MemoryLimiter
from proxy.limits.redis import RedisLimiter
from proxy.store.redis import open_redis
from tests.redis_servers import PATIENCE_S, RedisServer
from tests.together import together

TEXT, IMAGE = "gemini-3.8-flash", "gemini-3-pro-image"
NANO = 10**9
S = 1_000_000
EVENING = int(datetime(2026, 11, 22, 7, 59, tzinfo=UTC).timestamp()) * S
"""A minute before midnight in Los Angeles."""


def upstreams(**limits: Mapping[str, Any]) -> list[Upstream]:
    return [Upstream(name=name, api_key=SecretStr("key"), limits=of) for name, of in limits.items()]  # type: ignore[arg-type]


class Stand:
    """Quotas over a limiter in memory, and the clock that both go by."""

    def __init__(self, **limits: Mapping[str, Any]) -> None:
        self.now = EVENING
        self.limiter = MemoryLimiter(lambda: self.now // 1000)
        self.quotas = Quotas(self.limiter, upstreams(**limits), lambda: self.now, [TEXT])
        self.attempts = 0

    async def reserve(
        self, model: str = TEXT, tokens: int = 10, images: int = 0, usd: int = 1, upstream: str = "google"
    ) -> int | None:
        self.attempts += 1
        return await self.quotas.reserve(f"record.{self.attempts}", upstream, model, tokens, images, usd)

    async def used(self, upstream: str = "google") -> dict[tuple[str, str], int]:
        return {(of.kind, of.model): of.used for of in await self.quotas.used(upstream)}


async def test_each_model_has_a_quota_by_itself_and_money_is_over_all() -> None:
    """However a model is spelt; and each upstream's are its own."""
    stand = Stand(google={"rpm": 1, "usd_per_10min": 10}, other={"rpm": 1})
    assert await stand.reserve(TEXT, usd=4 * NANO) is None
    assert await stand.reserve(IMAGE, usd=4 * NANO) is None
    assert await stand.reserve(TEXT.upper()) == 61_000
    assert await stand.reserve("gemini-3.1-flash", usd=3 * NANO) == 610_000
    assert await stand.reserve(TEXT, upstream="other", usd=99 * NANO) is None
    assert await stand.used() == {
        ("usd_per_10min", "*"): 8 * NANO,
        ("rpm", TEXT): 1,
        ("rpm", IMAGE): 1,
        ("rpm", "gemini-3.1-flash"): 0,
    }
    assert Used("rpm", TEXT, 1, 1) in await stand.quotas.used("other")


async def test_a_refused_attempt_takes_nothing_and_gets_in_after_its_wait() -> None:
    stand = Stand(google={"rpm": 2, "tpm": 100, IMAGE: {"ipm": 3}})
    assert await stand.reserve(IMAGE, tokens=90, images=2) is None
    wait_ms = await stand.reserve(IMAGE, tokens=20, images=2)
    assert wait_ms == 61_000
    assert await stand.used() == {("rpm", IMAGE): 1, ("tpm", IMAGE): 90, ("ipm", IMAGE): 2}
    stand.now += (wait_ms - 1) * 1000
    assert await stand.reserve(IMAGE, tokens=20, images=2) == 1
    stand.now += 1000
    assert await stand.reserve(IMAGE, tokens=20, images=2) is None


async def test_a_full_day_waits_for_midnight_in_los_angeles() -> None:
    stand = Stand(google={"rpd": 1, "rpm": 9})
    assert await stand.reserve() is None
    stand.now += 1
    assert await stand.reserve() == 60_000
    assert stand.quotas.known_wait_ms("google", TEXT) == 60_000
    stand.now = EVENING + 60 * S
    assert stand.quotas.known_wait_ms("google", TEXT) is None
    assert await stand.reserve() is None


async def test_what_is_larger_than_a_quota_waits_as_long_as_it_is() -> None:
    """0 is a quota, too: of such a model the upstream is never asked."""
    stand = Stand(google={"tpm": 100, IMAGE: {"rpm": 0}, "usd_per_10min": 1})
    assert await stand.reserve(tokens=101) == 60_000
    assert await stand.reserve(usd=2 * NANO) == 600_000
    assert await stand.reserve(IMAGE) == 60_000
    assert stand.quotas.known_wait_ms("google", IMAGE) == 60_000
    assert stand.quotas.known_wait_ms("google", TEXT) is None


async def test_a_settle_corrects_estimates_and_a_cancel_gives_all_back() -> None:
    """A refused attempt was a request, and took nothing else; where nothing is known the estimate stands."""
    stand = Stand(google={"rpm": 9, "tpm": 1000, "ipm": 9, "rpd": 9, "usd_per_10min": 5})
    for _ in range(4):
        assert await stand.reserve(IMAGE, tokens=100, images=1, usd=NANO) is None
    stand.quotas.settle("record.1", 120, 2, 2 * NANO)
    stand.quotas.settle("record.2", 0, 0, 0)
    stand.quotas.settle("record.3", None, None, None)
    stand.quotas.cancel("record.4")
    used = {kind: amount for (kind, _), amount in (await stand.used()).items()}
    assert used == {"usd_per_10min": 3 * NANO, "rpm": 3, "tpm": 220, "rpd": 3, "ipm": 3}


async def test_a_known_wall_is_told_without_asking() -> None:
    """Of images only of models that make them."""
    stand = Stand(google={"ipm": 1, "usd_per_10min": 1})
    assert stand.quotas.known_wait_ms("google", IMAGE) is None
    assert await stand.reserve(IMAGE, images=1, usd=0) is None
    assert stand.quotas.known_wait_ms("google", IMAGE) == 61_000
    assert stand.quotas.known_wait_ms("google", TEXT) is None
    assert await stand.reserve(TEXT, usd=NANO) is None
    assert stand.quotas.known_wait_ms("google", TEXT) == 610_000
    no_images = Stand(google={"ipm": 0})
    assert no_images.quotas.known_wait_ms("google", IMAGE) == 60_000
    assert no_images.quotas.known_wait_ms("google", TEXT) is None
    assert await no_images.reserve(TEXT, images=0) is None


async def test_an_upstream_without_limits_is_never_counted() -> None:
    """Nor is a model that no limit names."""
    stand = Stand(free={}, google={"gemini-3-pro-*": {"rpm": 1}})
    assert (stand.quotas.limited("free"), stand.quotas.limited("gone")) == (False, False)
    assert stand.quotas.limited("google")
    for upstream in ("free", "gone", "google"):
        assert await stand.reserve(upstream=upstream) is None
        assert stand.quotas.known_wait_ms(upstream, TEXT) is None
        assert await stand.quotas.used(upstream) == []
    state = stand.limiter.state
    assert (state.leases, state.windows, state.days) == ({}, {}, {})


async def test_made_up_models_share_their_counters() -> None:
    """However many are named, what is kept of them is bounded; the models that were there before keep their own."""
    stand = Stand(google={"rpm": 10**6, "rpd": 10**6})
    for number in range(COUNTED + 50):
        assert await stand.reserve(f"made-up-{number}") is None
    for number in range(REMEMBERED):
        assert stand.quotas.known_wait_ms("google", f"more-{number}") is None
    assert await stand.reserve("made-up-0") is None
    used = await stand.used()
    assert len(used) == 2 * (COUNTED + 1)
    assert (used["rpm", OTHERS], used["rpm", "made-up-0"]) == (50, 2)
    assert len(stand.limiter.state.days) == COUNTED + 1
    assert len(stand.quotas._limited["google"]._applying) <= REMEMBERED


async def test_made_up_names_push_no_model_that_has_a_price_into_the_counter_that_they_share() -> None:
    """After a restart whoever is quick could: and then use that one up, and have the upstream asked for no other."""
    stand = Stand(google={"rpm": 1000})
    for number in range(COUNTED + 50):
        await stand.reserve(f"made-up-{number}")
    await stand.reserve(TEXT)
    await stand.reserve(TEXT.upper())
    assert (await stand.used())["rpm", TEXT] == 2


async def test_an_attempt_reserved_again_takes_nothing_more() -> None:
    """Each attempt of a call is a lease of its own; one cancelled before its reserve arrived is not let in."""
    stand = Stand(google={"rpm": 5})
    for _ in range(2):
        assert await stand.quotas.reserve("record.1", "google", TEXT, 1, 0, 1) is None
    assert await stand.quotas.reserve("record.2", "google", TEXT, 1, 0, 1) is None
    stand.quotas.cancel("record.3")
    assert await stand.quotas.reserve("record.3", "google", TEXT, 1, 0, 1) == 1
    assert await stand.used() == {("rpm", TEXT): 2}


def in_redis(server: RedisServer, worker: str, **options: Any) -> RedisLimiter:
    return RedisLimiter(open_redis(parse(server.url), timeout_s=PATIENCE_S), worker, lambda: EVENING // 1000, **options)


async def test_what_redis_refused_is_known_without_asking_it_again(redis_server: RedisServer) -> None:
    """Of requests and of money that is spent to the end; the counters' keys lie on one node."""
    limiter = in_redis(redis_server, "worker")
    await limiter.start([], lambda lease_id: None)
    limits = {"rpm": 1, IMAGE: {"rpm": 9}, "usd_per_10min": 2}
    quotas = Quotas(limiter, upstreams(google=limits), lambda: EVENING)
    assert await quotas.reserve("a.1", "google", TEXT, 1, 0, NANO) is None
    assert quotas.known_wait_ms("google", TEXT) is None
    wait_ms = await quotas.reserve("b.1", "google", TEXT, 1, 0, 0)
    assert wait_ms is not None
    assert 60_000 <= wait_ms <= 61_000
    assert quotas.known_wait_ms("google", TEXT) == wait_ms
    assert await quotas.reserve("c.1", "google", IMAGE, 1, 0, NANO) is None
    assert await quotas.reserve("d.1", "google", IMAGE, 1, 0, 1) is not None
    known = quotas.known_wait_ms("google", "another")
    assert known is not None
    assert 600_000 <= known <= 610_000
    with redis_server.client as client:
        assert {key.partition("}")[0] for key in client.keys("*")} == {"wb:{@google", "wb:{weighbridge"}
    await limiter.close()


async def test_attempts_that_an_earlier_process_left_in_redis_are_ended(redis_server: RedisServer) -> None:
    """As their calls' records say; those without a record never went up."""
    limits = upstreams(google={"rpm": 9, "tpm": 100, "usd_per_10min": 5})
    died = in_redis(redis_server, "worker")
    await died.start([], lambda lease_id: None)
    before = Quotas(died, limits, lambda: EVENING)
    for lease_id in ("recorded.1", "recorded.2", "unknown.1"):
        assert await before.reserve(lease_id, "google", TEXT, 10, 0, NANO) is None
    took = {
        "recorded.1": {"tpm": 0, "ipm": 0, "usd_per_10min": 0},
        "recorded.2": {"tpm": 25, "ipm": 0, "usd": 7, "usd_per_10min": 7},
    }
    limiter = in_redis(redis_server, "worker")
    await limiter.start(["alice", "@google"], took.get)
    quotas = Quotas(limiter, limits, lambda: EVENING)
    assert await quotas.reserve("next.1", "google", TEXT, 1, 0, 1) is None
    assert {of.kind: of.used for of in await quotas.used("google")} == {"rpm": 3, "tpm": 26, "usd_per_10min": 8}
    await limiter.close()
    await died.close()


@pytest.mark.parametrize("on_down", ["local", "deny"])
async def test_while_redis_is_away_it_is_as_with_tenants_limits(redis_server: RedisServer, on_down: Any) -> None:
    """Each worker counts alone, or nobody is let through; money of ten minutes is no budget."""
    limiter = in_redis(redis_server, "worker", on_down=on_down)
    await limiter.start([], lambda lease_id: None)
    quotas = Quotas(limiter, upstreams(google={"rpm": 2, "usd_per_10min": 5}, free={}), lambda: EVENING)
    assert await quotas.reserve("a.1", "google", TEXT, 1, 0, NANO) is None
    redis_server.stop()
    if on_down == "deny":
        with pytest.raises(ProxyRefused) as refused:
            await quotas.reserve("b.1", "google", TEXT, 1, 0, NANO)
        assert refused.value.reason is Reason.LIMITER_UNAVAILABLE
        assert quotas.known_wait_ms("google", TEXT) is None
    else:
        assert await quotas.reserve("b.1", "google", TEXT, 1, 0, NANO) is None
        assert await quotas.reserve("c.1", "google", TEXT, 1, 0, NANO) is not None
        assert quotas.known_wait_ms("google", TEXT) is not None
    assert await quotas.reserve("d.1", "free", TEXT, 1, 0, NANO) is None
    redis_server.start()
    await limiter.close()


CALLS, LIMIT = 500, 100


def test_four_processes_get_exactly_the_quota_together(redis_server: RedisServer) -> None:
    """Of 2,000 attempts at once against rpm = 100, over one Redis."""
    arguments = [[redis_server.url, f"worker{number}"] for number in range(4)]
    granted = map(int, together("tests.gateway.test_quotas", arguments))
    assert sum(granted) == LIMIT


async def ask(url: str, worker: str) -> None:
    """As one of these processes: begins when a line comes on its standard input, prints how many were granted."""
    limiter = RedisLimiter(open_redis(parse(url), timeout_s=PATIENCE_S), worker, lambda: EVENING // 1000)
    await limiter.start([], lambda lease_id: None)
    quotas = Quotas(limiter, upstreams(google={"rpm": LIMIT, "usd_per_10min": 200}), lambda: EVENING)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    waits = await asyncio.gather(
        *(quotas.reserve(f"{worker} {number}.1", "google", TEXT, 10, 0, 1) for number in range(CALLS))
    )
    assert not limiter.away
    print(waits.count(None), flush=True)
    await limiter.close()


if __name__ == "__main__":
    asyncio.run(ask(*sys.argv[1:]))
