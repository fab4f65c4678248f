"""Limits hold to the last call, through the whole proxy: many at once, over a restart, over a kill."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import pytest

from tests.journeys.limited import (
    ASK,
    AT_ONCE,
    Held,
    call_at_once,
    kill_frees_the_places,
    went_up,
    with_limits,
)
from tests.journeys.numbered import forget
from tests.journeys.watching import PICTURE, body, connect, until
from tests.stand import Weighbridge, weighbridge
from tests.upstreams.origin import serving


@pytest.mark.parametrize(
    ("limit", "path", "passes"), [("rpm=100", ASK, 100), ("rpd=50", ASK, 50), ("ipm=7", PICTURE, 7)]
)
async def test_of_2000_calls_at_once_the_limit_passes(
    limit: str, path: str, passes: int, upstream: str, tmp_path: Path
) -> None:
    """Exactly. None of those refused reaches the upstream, and none leaves a record."""
    forget(upstream)
    with weighbridge(tmp_path, upstream) as stand:
        statuses = await call_at_once(stand, with_limits(stand, limit), path, body("hello"))
        assert Counter(statuses) == {200: passes, 429: AT_ONCE - passes}
        assert went_up(upstream) == len(stand.records()) == passes


async def test_of_2000_calls_at_once_so_many_are_in_flight(tmp_path: Path) -> None:
    """Places are taken until they are free; those refused ask the upstream nothing."""
    slow = Held()
    async with serving(slow, seconds=120) as upstream:
        with weighbridge(tmp_path, upstream.url) as stand:
            key = with_limits(stand, "concurrency=5")
            calling = asyncio.get_running_loop().create_task(call_at_once(stand, key, ASK, body("hello")))
            refused = '429"} 1995.0'
            await asyncio.to_thread(until, lambda: refused in httpx2.get(f"{stand.admin_url}/metrics").text, refused)
            await asyncio.to_thread(until, lambda: slow.arrived == 5, "five went up")
            slow.release.set()
            assert Counter(await calling) == {200: 5, 429: AT_ONCE - 5}
            assert slow.arrived == 5
            assert await call_at_once(stand, key, ASK, body("hello"), 5) == [200] * 5


async def test_more_pictures_than_estimated_exceed_the_limit_by_what_estimates_missed(
    upstream: str, tmp_path: Path
) -> None:
    """A call is reckoned to bring one picture. These bring three: so two of each are over, and no more."""
    with weighbridge(tmp_path, upstream) as stand:
        key = with_limits(stand, "ipm=7")
        statuses = await call_at_once(stand, key, PICTURE, body("[[images=3]]"), 30)
        passed = statuses.count(200)
        images = sum(record.images for record in stand.records())
        assert images == 3 * passed
        assert 7 <= images <= 7 + 2 * passed
        assert await call_at_once(stand, key, PICTURE, body("hello"), 3) == [429] * 3


async def test_a_restart_forgets_nothing_that_still_counts(upstream: str, tmp_path: Path, at_end: ExitStack) -> None:
    """The day's calls, and the last minute's calls, tokens and images: the ledger tells them."""
    stand = at_end.enter_context(closing(Weighbridge(tmp_path, upstream)))
    keys = {}
    for project, limit in {"a": "rpd=3", "b": "rpm=3", "c": "ipm=3", "d": "tpm=10"}.items():
        stand.run("project", "create", project, "--limit", limit)
        keys[project] = stand.key(project)
    for _ in range(2):
        stand.start()
        seen = {name: await call_at_once(stand, key, PICTURE, body("hello"), 2) for name, key in keys.items()}
        stand.stop()
    assert {name: sorted(statuses) for name, statuses in seen.items()} == {
        "a": [200, 429],
        "b": [200, 429],
        "c": [200, 429],
        "d": [429, 429],
    }


async def test_a_kill_frees_the_places_and_keeps_the_days_count(tmp_path: Path, at_end: ExitStack) -> None:
    """With 50 calls in flight: each is `unsettled`, once; its place is free at once, and the day has counted it."""
    slow = Held()
    async with serving(slow, seconds=120) as upstream:
        stand = at_end.enter_context(closing(Weighbridge(tmp_path, upstream.url)))
        await kill_frees_the_places(stand, slow)


def test_who_is_over_is_refused_before_the_body_is_sent(upstream: str, tmp_path: Path) -> None:
    """A hundred megabytes are announced, and none of them is waited for."""
    with weighbridge(tmp_path, upstream) as stand:
        key = with_limits(stand, "rpd=1")
        assert httpx2.post(stand.base_url + ASK, json=body("hello"), headers={"x-goog-api-key": key}).status_code == 200
        head = f"POST {ASK} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {key}\r\ncontent-type: application/json\r\n"
        with connect(stand.base_url) as connection:
            connection.sendall(f"{head}content-length: 100000000\r\n\r\n".encode())
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"x-weighbridge-refused: RATE_LIMITED" in answer


def test_a_refusal_is_one_of_googles_quota_failures(upstream: str, tmp_path: Path) -> None:
    """Status, QuotaFailure and RetryInfo as Google's, in our domain; `Retry-After` where the wait is short."""
    with weighbridge(tmp_path, upstream) as stand:
        key = with_limits(stand, "rpm=1", "rpd=1")
        answers = [
            httpx2.post(stand.base_url + ASK, json=body("hello"), headers={"x-goog-api-key": key}) for _ in range(2)
        ]
        error = answers[1].json()["error"]
        assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
        info, quota, retry = error["details"]
        assert (info["reason"], info["domain"]) == ("RATE_LIMITED", "weighbridge")
        assert [violation["quotaId"] for violation in quota["violations"]] == [
            "RequestsPerMinutePerProject",
            "RequestsPerDayPerProject",
        ]
        assert quota["violations"][0]["quotaValue"] == "1"
        seconds = float(retry["retryDelay"].removesuffix("s"))
        assert 0 < seconds <= 86_400
        assert f"Please retry in {retry['retryDelay']}." in error["message"]
        assert ("retry-after" in answers[1].headers) is (seconds <= 60)
