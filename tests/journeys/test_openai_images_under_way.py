"""Several pictures of one request under way: their turns, a client that leaves, a server that is killed or drains."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.journeys.drawing import Easel, key_of
from tests.journeys.limited import call_once
from tests.journeys.raw import judged
from tests.journeys.watching import in_flight, open_leases, until
from tests.stand import Weighbridge
from tests.upstreams.origin import serving

GENERATE = "/v1/images/generations"


def asks(stand: Weighbridge, key: str, n: int, **fields: Any) -> asyncio.Task[bytes]:
    calling = call_once(stand.base_url, key, GENERATE, {"prompt": "a lorry", "n": n, **fields})
    return asyncio.get_running_loop().create_task(calling)


async def seen(happened: Any, what: str) -> None:
    await asyncio.to_thread(until, happened, what)


async def test_pictures_wait_their_turn_and_outlive_a_client_that_leaves(tmp_path: Path, at_end: ExitStack) -> None:
    """With one place, all of four come, one after the other. Those that are up when the client leaves are recorded with
    what they cost; those that wait are not asked for any more."""
    easel = Easel()
    async with serving(easel, seconds=120) as upstream:
        stand = at_end.enter_context(closing(Weighbridge(tmp_path, upstream.url)))
        stand.start()
        one, two = key_of(stand, "one", "concurrency=1"), key_of(stand, "two", "concurrency=2")
        asking = asks(stand, one, 4)
        for count in range(1, 5):
            await seen(lambda count=count: easel.arrived == count, f"{count} went up")
            easel.let.release()
        answer = judged(await asking)
        assert (answer.status, len(json.loads(answer.body)["data"]), easel.most_at_once) == (200, 4, 1)
        assert Counter(record.outcome for record in stand.records()) == {"ok": 4}

        asking = asks(stand, two, 4)
        await seen(lambda: easel.arrived == 6, "two went up")
        asking.cancel()
        await asyncio.wait([asking])
        easel.let.release()
        await seen(lambda: len(stand.records()) == 5, "the first is recorded")
        easel.let.release()
        await seen(lambda: in_flight(stand.admin_url) == 0 and len(stand.records()) == 6, "both are")
        left = stand.records()[4:]
        assert [(record.outcome, record.images, record.estimated) for record in left] == [("client_gone", 1, False)] * 2
        assert easel.arrived == 6
        assert open_leases(stand.data_dir) == 0
        assert "The app failed" not in stand.log()


async def test_killed_each_picture_that_went_up_is_unsettled(tmp_path: Path, at_end: ExitStack) -> None:
    """Once, and after the next start. Shut down in order, the server waits for those that are under way."""
    easel = Easel()
    async with serving(easel, seconds=120) as upstream:
        stand = at_end.enter_context(closing(Weighbridge(tmp_path, upstream.url)))
        stand.start()
        key = stand.key()
        asking = asks(stand, key, 3)
        await seen(lambda: easel.arrived == 3, "three went up")
        await asyncio.to_thread(stand.stop, signal.SIGKILL)
        assert await asking == b""
        await asyncio.to_thread(stand.start)
        killed = stand.records()
        assert [record.outcome for record in killed] == ["unsettled"] * 3
        assert len({record.request_id for record in killed}) == 1

        easel.arrived, easel.let = 0, asyncio.Semaphore(0)
        asking = asks(stand, key, 3)
        await seen(lambda: easel.arrived == 3, "three went up")
        assert stand.process is not None
        stand.process.send_signal(signal.SIGTERM)
        await seen(lambda: '"draining"' in stand.log(), "it drains")
        for _ in range(3):
            easel.let.release()
        answer = judged(await asking)
        assert (answer.status, len(json.loads(answer.body)["data"])) == (200, 3)
        assert await asyncio.to_thread(stand.wait) == 0
        assert Counter(record.outcome for record in stand.records()) == {"unsettled": 3, "ok": 3}
