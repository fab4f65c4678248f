"""Budgets through the whole proxy: never overrun in `worst`, in memory and in Redis, over restarts and kills."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.control.event_table import list_events
from proxy.store.database import open_database
from proxy.tenants.keys import list_keys
from tests.disk import Disk
from tests.journeys.limited import ASK, Held, call_once, limits_told, with_limits
from tests.journeys.watching import body, until
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge
from tests.upstreams.origin import serving

PRO_PICTURE = "/v1beta/models/gemini-3-pro-image:generateContent"
AT_ONCE = 300
_REASON = re.compile(rb"x-weighbridge-refused: (\w+)")


def stand_of(
    folder: Path, upstream: str, at_end: ExitStack, hold: str = "worst", redis: RedisServer | None = None
) -> Weighbridge:
    folder.mkdir(exist_ok=True)
    storage = {"storage": {"redis_url": redis.url}} if redis else {}
    return at_end.enter_context(closing(Weighbridge(folder, upstream, {"limits": {"hold": hold}, **storage})))


def asks(**config: Any) -> dict[str, Any]:
    return body("a lorry on a weighbridge") | {"generationConfig": config}


def spent(*stands: Weighbridge) -> Decimal:
    """As the ledgers have it."""
    return sum((Decimal(record.cost_usd or 0) for stand in stands for record in stand.records()), Decimal()) / 10**9


def told(stand: Weighbridge) -> list[dict[str, Any]]:
    return list(limits_told(stand)["limits"])


async def until_refused_for_good(stands: Sequence[tuple[Weighbridge, str]], asked: Any) -> Counter[str]:
    """So many callers at once, each of whom comes again while the budget is only held: when another call has ended,
    which needn't have arrived in Redis, or after the second that the refusal names."""
    ended, outcomes = asyncio.Condition(), Counter[str]()

    async def call(stand: Weighbridge, key: str) -> None:
        while True:
            seen = outcomes.total()
            answer = await call_once(stand.base_url, key, PRO_PICTURE, asked)
            reason = found[1].decode() if (found := _REASON.search(answer)) else answer[9:12].decode()
            if reason != "BUDGET_HELD":
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(1), ended:
                    await ended.wait_for(lambda seen=seen: outcomes.total() > seen)  # type: ignore[misc]
        async with ended:
            outcomes[reason] += 1
            ended.notify_all()

    await asyncio.gather(*(call(*stands[number % len(stands)]) for number in range(AT_ONCE)))
    return outcomes


@pytest.mark.parametrize("servers", [0, 2], ids=["in memory", "two servers in Redis"])
async def test_of_300_pictures_at_once_a_budget_of_2_usd_pays_for_as_many_as_fit(
    servers: int, redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """A picture of 3-pro may cost 0.168 USD where its answer is capped at 1,400 tokens, and costs some 0.14; the cap
    leaves no room for the two more that the model would make."""
    stands = [
        stand_of(tmp_path / str(number), upstream, at_end, redis=redis_server if servers else None)
        for number in range(servers or 1)
    ]
    keys = [with_limits(stand, "usd=2,per=month") for stand in stands]
    for stand in stands:
        stand.start()
    three = body("[[images=3]] [[thoughts=2000]]") | {"generationConfig": {"maxOutputTokens": 1400}}
    outcomes = await until_refused_for_good(list(zip(stands, keys, strict=True)), three)
    assert outcomes.keys() == {"200", "BUDGET_EXCEEDED"}
    assert outcomes["200"] == sum(len(stand.records()) for stand in stands)
    assert Decimal("1.80") <= spent(*stands) <= Decimal("2.00")
    [budget] = told(stands[0])
    assert (Decimal(budget["used"]), budget["held"]) == (spent(*stands), "0")
    assert all("hold_exceeded" not in stand.log() for stand in stands)


async def test_in_typical_calls_in_flight_may_exceed_it_by_what_they_cost_more_than_usual(
    upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Each brings three pictures, where one is usual: no more are let in than their estimates leave room for, so the
    overshoot is what these cost more than that."""
    stand = stand_of(tmp_path, upstream, at_end, "typical")
    key = with_limits(stand, "usd=2,per=day")
    stand.start()
    three = body("[[images=3]]")
    answers = await asyncio.gather(*(call_once(stand.base_url, key, PRO_PICTURE, three) for _ in range(AT_ONCE)))
    passed = sum(answer[9:12] == b"200" for answer in answers)
    typical = Decimal("0.1392")
    assert 0 < passed <= 2 // typical
    assert spent(stand) > 2
    last = await call_once(stand.base_url, key, PRO_PICTURE, three)
    assert b"x-weighbridge-refused: BUDGET_EXCEEDED" in last
    assert b"RetryInfo" not in last
    assert b"retry-after" not in last


@pytest.mark.parametrize("in_redis", [False, True], ids=["in memory", "in Redis"])
async def test_a_restart_and_a_kill_forget_nothing_that_was_spent_or_held(
    in_redis: bool, redis_server: RedisServer, tmp_path: Path, at_end: ExitStack
) -> None:
    """What was in flight at a kill is spent, by its estimate, before the door opens again; so is what a clean end
    leaves; nothing is held by the dead."""
    slow = Held()
    async with serving(slow, seconds=120) as upstream:
        stand = stand_of(tmp_path, upstream.url, at_end, "worst", redis_server if in_redis else None)
        key = with_limits(stand, "usd=0.01,per=total", "usd=5,per=month", "usd=5,per=day,model=gemini-*")
        stand.start()
        capped, loop = asks(maxOutputTokens=200), asyncio.get_running_loop()
        calling = [loop.create_task(call_once(stand.base_url, key, ASK, capped)) for _ in range(3)]
        await asyncio.to_thread(until, lambda: slow.arrived == 3, "three calls in flight")
        held = [budget["held"] for budget in told(stand)]
        assert len(set(held)) == 1
        assert Decimal(held[0]) > 0
        table = stand.run("limits", "show", "alice").splitlines()
        assert table[0].split()[3:5] == ["USED", "HELD"]
        assert [line.split()[6] for line in table[1:4]] == held
        await asyncio.to_thread(stand.stop, signal.SIGKILL)
        assert await asyncio.gather(*calling) == [b""] * 3
        slow.release.set()
        for _ in range(2):
            await asyncio.to_thread(stand.start)
            answer = await call_once(stand.base_url, key, ASK, capped)
            assert answer[9:12] == b"200"
            assert {(Decimal(budget["used"]), budget["held"]) for budget in told(stand)} == {(spent(stand), "0")}
            await asyncio.to_thread(stand.stop)
        assert Counter(record.outcome for record in stand.records()) == {"unsettled": 3, "ok": 2}
        assert all(record.cost_usd for record in stand.records())


async def test_a_budget_takes_no_commit_and_no_fsync_more(upstream: str, watched_disk: Disk, at_end: ExitStack) -> None:
    """Calls one after another, of a project that has budgets and of one that has nothing."""
    stand = at_end.enter_context(
        closing(Weighbridge(watched_disk.root, upstream, environment=watched_disk.environment))
    )
    keys = [with_limits(stand, "usd=100,per=day", "usd=100,per=month", "usd=100,per=total")]
    stand.run("project", "create", "bob")
    keys.append(stand.key("bob"))
    stand.start()
    for key in keys:
        assert (await call_once(stand.base_url, key, ASK, body("hello")))[9:12] == b"200"
    database = open_database(stand.storage)
    used = lambda: any(key.last_used_at for key in list_keys(database))  # noqa: E731
    await asyncio.to_thread(until, used, "when keys were used is written, as it will be in a minute again")
    fsyncs = []
    for key in keys:
        before = watched_disk.now
        for _ in range(10):
            assert (await call_once(stand.base_url, key, ASK, body("hello")))[9:12] == b"200"
        fsyncs.append(sum(call.what == "s" and call.at > before for call in watched_disk.calls()))
    assert fsyncs[0] == fsyncs[1] >= 10


async def test_what_cannot_be_bounded_or_priced_is_refused_where_there_is_a_budget(
    upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """And nothing of it goes up; where there is none, all of it does."""
    stand = stand_of(tmp_path, upstream, at_end)
    key = with_limits(stand, "usd=2,per=month")
    free = stand.key("bob")
    stand.start()

    async def refused(path: str, asked: Any) -> str:
        answer = await call_once(stand.base_url, key, path, asked)
        assert (await call_once(stand.base_url, free, path, asked))[9:12] in (b"200", b"404")
        found = _REASON.search(answer)
        return found[1].decode() if found else answer[9:12].decode()

    assert await refused("/v1beta/models/gemini-99-unheard-of:generateContent", asks()) == "MODEL_UNPRICED"
    assert await refused(ASK, asks() | {"tools": [{"googleSearch": {}}]}) == "UNMETERABLE_PARAMETER"
    assert await refused(PRO_PICTURE, asks()) == "BUDGET_EXCEEDED"
    assert {record.project for record in stand.records()} == {"bob"}
    answer = await call_once(stand.base_url, key, PRO_PICTURE, asks())
    message = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert (
        "by itself. generationConfig.maxOutputTokens, in OpenAI's shape max_tokens, bounds what a request may cost."
        in message
    )


async def test_a_call_that_broke_off_is_billed_no_more_than_was_held(
    upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Its estimate, of a prompt beyond the model's context, is more than such a call can cost if it is answered."""
    stand = stand_of(tmp_path, upstream, at_end)
    key = with_limits(stand, "usd=0.43,per=month")
    bobs = stand.key("bob")
    stand.run("project", "update", "bob", "--limit=usd=1,per=day,shadow")
    stand.start()
    broken = body("[[break-after=1]]" + 600_000 * "a") | {"generationConfig": {"maxOutputTokens": 1400}}
    assert b"x-weighbridge-refused: BUDGET_EXCEEDED" in await call_once(stand.base_url, key, PRO_PICTURE, broken)
    await call_once(stand.base_url, bobs, PRO_PICTURE, broken)
    assert [record.outcome for record in stand.records()] == ["truncated"]
    assert spent(stand) > Decimal("0.43")
    assert "hold_exceeded" not in stand.log()


async def test_a_model_that_is_not_charged_by_tokens_passes_a_shadow_budget(
    upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    stand = stand_of(tmp_path, upstream, at_end)
    key = with_limits(stand, "usd=2,per=month,shadow")
    stand.start()
    answer = await call_once(stand.base_url, key, "/v1beta/models/veo-3.1-generate:generateContent", asks())
    assert answer[9:12] == b"404"  # Google's


async def test_while_redis_is_away_nobody_who_has_a_budget_is_let_in(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Others are; and what was spent is known when it is back, also where it was emptied."""
    stand = stand_of(tmp_path, upstream, at_end, redis=redis_server)
    key = with_limits(stand, "usd=2,per=month")
    stand.run("project", "create", "bob", "--rpm", "100")
    bobs = stand.key("bob")
    stand.start()
    capped = asks(maxOutputTokens=200)

    async def status(of: str) -> int:
        return int((await call_once(stand.base_url, of, ASK, capped))[9:12])

    assert [await status(key), await status(bobs)] == [200, 200]
    await asyncio.to_thread(redis_server.stop)
    assert [await status(key), await status(bobs)] == [503, 200]
    await asyncio.to_thread(redis_server.start)
    metrics = f"{stand.admin_url}/metrics"
    await asyncio.to_thread(
        until, lambda: told(stand)[0]["held"] == "0" and limits_told(stand)["counted_in"] == "redis", "Redis back"
    )
    assert "weighbridge_limiter_errors_total" in httpx2.get(metrics).text
    assert await status(key) == 200
    alices = sum(record.cost_usd or 0 for record in stand.records() if record.project == "alice")
    assert Decimal(told(stand)[0]["used"]) == Decimal(alices) / 10**9


async def test_an_adjustment_counts_at_once_and_may_reach_a_threshold(
    upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    stand = stand_of(tmp_path, upstream, at_end)
    with_limits(stand, "usd=2,per=month", "rpm=10")
    stand.start()
    stand.run("usage", "adjust", "alice", "-0.25", "--why", "a part of what was paid came back")
    stand.run("usage", "adjust", "alice", "1.50", "--why", "a picture that was paid by hand")
    assert told(stand)[-1]["used"] == "1.25"
    # It is more than half, so there is an event.
    database = open_database(stand.storage)
    [event] = await asyncio.to_thread(until, lambda: list_events(database, limit=9), "an event")
    of = json.loads(event.body)["data"]
    assert (of["project"], of["threshold"], of["budget_usd"], of["spent_usd"]) == ("alice", 50, "2", "1.25")
    ratio = 'weighbridge_budget_used_ratio{project="alice"} 0.625'
    await asyncio.to_thread(until, lambda: ratio in httpx2.get(f"{stand.admin_url}/metrics").text, ratio)
    of_limits = 'weighbridge_limit_used_ratio{limit="rpm",project="alice"} 0.0'
    await asyncio.to_thread(until, lambda: of_limits in httpx2.get(f"{stand.admin_url}/metrics").text, of_limits)
