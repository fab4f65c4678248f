"""What exists under one upstream only is asked for there: also while it cools down, and nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from proxy.app import App
from proxy.config.schema import Settings, Storage
from proxy.config.schema import Upstream as UpstreamSettings
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from tests.gateway.wire import door
from tests.journeys.pooled import Upstream, quota
from tests.journeys.watching import TEXT, body
from tests.stand import Weighbridge

pytestmark = pytest.mark.anyio


async def test_what_exists_under_one_upstream_is_asked_for_there_and_nowhere_else(tmp_path: Path) -> None:
    """Ownership is a fake here: the prompt names the upstream."""
    owner = ""

    def owned_by(call: Call, facts: BodyFacts) -> str:
        return owner

    with ExitStack() as around:
        a, b = Upstream("a"), Upstream("b", quota("60s"))
        for upstream in (a, b):
            around.enter_context(upstream.listening())
        configured = tuple(
            UpstreamSettings(name=one.name, base_url=one.base_url, api_key=SecretStr("k")) for one in (a, b)
        )
        settings = Settings(storage=Storage(data_dir=tmp_path / "data"), upstreams=configured)
        app = await App.open(settings, ledger_broke=pytest.fail)
        app._plane.relay._affinity = owned_by
        key = await asyncio.to_thread(Weighbridge(tmp_path, "").key)
        async with door(app.gateway) as gateway, httpx2.AsyncClient(timeout=30, trust_env=False) as client:

            async def ask(of: str) -> httpx2.Response:
                nonlocal owner
                owner = of
                url = f"http://127.0.0.1:{gateway.port}{TEXT}generateContent"
                return await client.post(url, json=body("hi"), headers={"x-goog-api-key": key})

            for _ in range(4):
                assert (await ask("a")).status_code == 200
            assert (len(a.asked), len(b.asked)) == (4, 0)
            for _ in range(3):
                answer = await ask("b")
                assert (answer.status_code, answer.content) == (429, quota("60s").partition(b"\r\n\r\n")[2])
            assert (len(a.asked), len(b.asked)) == (4, 3), "also while it cools down"
            for _ in range(3):
                assert (await ask("")).status_code == 200
            assert (len(a.asked), len(b.asked)) == (7, 3), "whoever owns nothing goes elsewhere meanwhile"
            app._health.disable(["b"])
            for gone in ("b", "removed"):
                answer = await ask(gone)
                assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (503, "NO_UPSTREAM")
            assert (len(a.asked), len(b.asked)) == (7, 3)
        await app.close()
