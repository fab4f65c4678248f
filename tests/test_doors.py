"""What runs beside the doors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from proxy.config.schema import Settings, Storage
from proxy.config.upstreams import Upstream
from proxy.doors import Doors, open_doors
from proxy.resources import bind

pytestmark = pytest.mark.anyio


async def test_what_runs_beside_the_doors_and_fails_is_told_and_they_stay_open(tmp_path: Path) -> None:
    async def fail(doors: Doors) -> None:
        raise RuntimeError("a mistake of ours")

    upstream = Upstream(name="u", base_url="http://127.0.0.1:1", api_key=SecretStr("k"))
    settings = Settings(storage=Storage(data_dir=tmp_path / "data"), upstreams=(upstream,))
    with capture_logs() as told, bind("127.0.0.1", 0) as gateway, bind("127.0.0.1", 0) as control:
        async with open_doors(settings, gateway, control, fail) as doors:
            async with asyncio.timeout(30):
                while not (failed := [line for line in told if line["event"] == "watch_failed"]):
                    await asyncio.sleep(0.01)
            assert not doors.closing
            doors.interrupt()
    assert [(line["what"], line["why"]) for line in failed] == [
        (
            "changes of the configuration are not followed any more: restart the server",
            "RuntimeError('a mistake of ours')",
        )
    ]
