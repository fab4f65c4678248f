"""What is done again and again goes on whatever fails, and says once that it fails, and once that it is back."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from proxy.control.again import again_and_again

pytestmark = pytest.mark.anyio


async def test_a_step_that_fails_is_tried_again_and_told_once() -> None:
    results = [None, ValueError("no"), ValueError(), None, OSError("full"), None]
    done = asyncio.Event()

    async def step() -> None:
        if not results:
            done.set()
            await asyncio.Event().wait()
        if (result := results.pop(0)) is not None:
            raise result

    with structlog.testing.capture_logs() as lines:
        going = asyncio.get_running_loop().create_task(
            again_and_again(step, lambda: asyncio.sleep(0), "nothing is looked at")
        )
        async with asyncio.timeout(30):
            await done.wait()
        going.cancel()
    told = [(line["event"], line.get("why", "")) for line in lines]
    assert told == [("chore_failing", "no"), ("chore_back", ""), ("chore_failing", "full"), ("chore_back", "")]
    assert [line["what"] for line in lines] == ["nothing is looked at", "no longer: nothing is looked at"] * 2
