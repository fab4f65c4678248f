"""`weighbridge ledger verify` on what a running server wrote of calls of every kind, and after it was killed."""

from __future__ import annotations

import asyncio
import json
import signal
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.emulator.behaviours import USAGES
from tests.journeys.watching import PICTURE, TEXT, body, open_leases, until
from tests.stand import Weighbridge, weighbridge

PROMPTS = (
    *("plain", "[[thoughts=137]]", "[[tool-use=50]]", "[[cached=100]]", "[[search=2]]", "[[tier=priority]]"),
    *("[[refuse=IMAGE_SAFETY]]", "[[block=SAFETY]]", "[[images=3]]", "[[images=3]][[usage=no-details]]"),
    *("[[break-after=300]]", "[[break-after=0]]", "[[status=429]]", "[[error-mid-stream=503]]", "[[gzip]]"),
    *("[[model-version=gemini-none-such]]", "[[images=2]][[cached=40]][[tool-use=9]][[thoughts=5]][[search=1]]"),
    *(f"[[usage={usage}]]" for usage in USAGES),
    *(f"[[usage={usage}]][[thoughts=7]][[images=2]]" for usage in USAGES),
)
PATHS = (
    TEXT + "generateContent",
    TEXT + "streamGenerateContent?alt=sse",
    PICTURE,
    PICTURE.replace("gemini-3.1-flash-image", "gemini-2.5-flash-image"),
    PICTURE.replace("generateContent", "streamGenerateContent"),
    PICTURE.replace("gemini-3.1-flash-image", "gemini-none-such"),
)


def verified(stand: Weighbridge) -> dict[str, Any]:
    [file] = json.loads(stand.run("ledger", "verify", "--json"))["files"]
    assert isinstance(file, dict)
    return file


async def call_all(stand: Weighbridge, key: str) -> None:
    """Every prompt on every path, some of whose answers nobody reads."""
    async with httpx2.AsyncClient(base_url=stand.base_url, headers={"x-goog-api-key": key}, timeout=60) as client:
        limit = asyncio.Semaphore(8)

        async def call(path: str, prompt: str) -> None:
            async with limit:
                try:
                    await client.post(path, json=body(prompt))
                except httpx2.TransportError:
                    assert "break-after" in prompt or "error" in prompt

        await asyncio.gather(*(call(path, prompt) for path, prompt in product(PATHS, PROMPTS)))


@pytest.mark.anyio
async def test_whatever_calls_bring_the_ledger_holds_against_itself(upstream: str, tmp_path: Path) -> None:
    """While it is served, after a kill in the midst of a call, and when the next start has closed that out."""
    stand = Weighbridge(tmp_path, upstream)
    try:
        stand.start()
        key = stand.key()
        await call_all(stand, key)
        told = verified(stand)
        assert (told["findings"], told["served"], told["open_leases"]) == ([], True, 0)
        assert told["records"] == len(PATHS) * len(PROMPTS)

        async with httpx2.AsyncClient(headers={"x-goog-api-key": key}) as client:
            waiting = asyncio.gather(
                client.post(stand.base_url + TEXT + "generateContent", json=body("[[delay=20]]")),
                return_exceptions=True,
            )
            await asyncio.to_thread(until, lambda: open_leases(stand.data_dir) == 1, "its lease")
            assert verified(stand)["open_leases"] == 1
            stand.stop(signal.SIGKILL)
            await waiting
        told = verified(stand)
        assert (told["findings"], told["served"], told["open_leases"]) == ([], False, 1)
    finally:
        stand.close()
    with weighbridge(tmp_path, upstream) as again:
        told = verified(again)
        assert (told["findings"], told["open_leases"]) == ([], 0)
        assert again.records()[-1].outcome == "unsettled"
