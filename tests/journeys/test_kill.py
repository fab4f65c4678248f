"""Killed at any moment: what a client received whole is on the ledger once, what reached the upstream is never lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from tests.stand import Weighbridge

AT_ONCE = 16
VERBS = ("generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent")


async def load(stand: Weighbridge, key: str, whole: list[str], enough: asyncio.Event, after: int) -> None:
    """Calls until the process dies; the request ids of those that were received whole."""
    limits = httpx2.Limits(max_connections=AT_ONCE)
    headers = {"x-goog-api-key": key}
    async with httpx2.AsyncClient(base_url=stand.base_url, headers=headers, limits=limits, timeout=30) as client:

        async def caller(number: int) -> None:
            chance = random.Random(number)
            with contextlib.suppress(httpx2.HTTPError):
                while True:
                    verb = chance.choice(VERBS)
                    text = f"[[delay={chance.choice([0, 0, 0.005])}]] {'x' * chance.randrange(2000)}"
                    body = {"contents": [{"parts": [{"text": text}]}]}
                    answer = await client.post(f"/v1beta/models/gemini-3.8-flash:{verb}", json=body)
                    assert answer.status_code == 200
                    whole.append(answer.headers["x-weighbridge-request-id"])
                    if len(whole) >= after:
                        enough.set()

        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(caller(number))
            await asyncio.wait_for(enough.wait(), 30)
            assert stand.process is not None
            stand.process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("after", [1, 60, 200])
async def test_nothing_is_lost_and_nothing_is_twice(upstream: str, tmp_path: Path, after: int) -> None:
    httpx2.delete(f"{upstream}/emulator/account")
    stand = Weighbridge(tmp_path, upstream)
    stand.start()
    whole: list[str] = []
    await load(stand, stand.key(), whole, asyncio.Event(), after)
    stand.stop(signal.SIGKILL)
    stand.start()  # closes out what was left
    stand.stop()
    records = stand.records()
    seen = Counter(record.request_id for record in records)
    assert max(seen.values()) == 1
    assert set(whole) <= set(seen)
    entries = httpx2.get(f"{upstream}/emulator/account", params={"limit": 100_000}).json()["entries"]
    assert len(records) >= len(entries), "a call reached the upstream and left no record"
    settled = {record.response_id for record in records if record.outcome != "unsettled"}
    unsettled = [record for record in records if record.outcome == "unsettled"]
    assert len(unsettled) >= len([entry for entry in entries if entry["id"] not in settled])
    assert all(record.estimated and record.cost_usd for record in unsettled)
