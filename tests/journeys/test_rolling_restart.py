"""Servers behind a load balancer that heeds their readiness are restarted one after another: no call fails."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.haproxy_servers import Haproxy
from tests.journeys.numbered import VERBS, Whole, account, compare, forget, numbered
from tests.journeys.test_serving import ended, tell
from tests.journeys.watching import DEADLINE_S, TEXT, until
from tests.proof import Proof, sized
from tests.redis_servers import free_port
from tests.stand import Weighbridge

pytestmark = pytest.mark.anyio

CALLERS = 12
ROUNDS = sized(1, 8)
LAME_DUCK_S = 3
KINDS = (
    "",
    "",
    "[[chunks=4]] [[chunk-delay=0.03]]",
    "[[delay=0.3]]",
    "[[delay=1.5]]",
    "[[chunks=6]] [[chunk-delay=0.3]]",
)
"""What calls are: plain, streamed, slow."""


@dataclass
class Steady:
    """Callers that each keep a connection, some of them idle between calls; whatever fails is kept."""

    url: str
    key: str
    whole: dict[int, Whole] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    over: bool = False
    numbers: int = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as callers:
            for caller in range(CALLERS):
                callers.create_task(self._caller(random.Random(caller), idle_s=0.4 * (caller % 3)))

    async def _caller(self, chance: random.Random, idle_s: float) -> None:
        headers = {"x-goog-api-key": self.key, "content-type": "application/json"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=60) as client:
            while not self.over:
                self.numbers = number = self.numbers + 1
                kind = chance.choice(KINDS)
                verb = chance.choice(VERBS if "chunk" in kind else VERBS[:1])
                try:
                    answer = await client.post(TEXT + verb, content=numbered(number, kind))
                except httpx2.TransportError as error:
                    self.failed.append(f"{number} {kind}: {error!r}")
                    continue
                if answer.status_code == 200 and "STOP" in answer.text:
                    self.whole[number] = Whole(answer.headers["x-weighbridge-request-id"], 0)
                else:
                    self.failed.append(f"{number} {kind}: {answer.status_code} {answer.text[:200]}")
                await asyncio.sleep(idle_s * chance.random())

    async def more(self, calls: int) -> None:
        """Waits for so many more whole answers."""
        wanted = len(self.whole) + calls
        async with asyncio.timeout(DEADLINE_S):
            while len(self.whole) < wanted:
                await asyncio.sleep(0.02)


def two_servers(folder: Path, upstream: str, at_end: ExitStack) -> tuple[dict[str, Weighbridge], str]:
    """Both with the same projects and keys, each with a ledger of its own; and a key."""
    servers = {}
    for name in ("one", "two"):
        (folder / name).mkdir()
        settings = {"server": {"port": free_port(), "lame_duck_seconds": LAME_DUCK_S}}
        servers[name] = Weighbridge(folder / name, upstream, settings)
    key = servers["one"].key()
    servers["two"].data_dir.mkdir()
    shutil.copy(servers["one"].data_dir / "weighbridge.db", servers["two"].data_dir)
    for server in servers.values():
        at_end.callback(server.close)
        server.spawn()
    for server in servers.values():
        server.started()
    return servers, key


async def seen(happened: Callable[[], object], what: str) -> None:
    """Waits for it, while the load goes on."""
    await asyncio.to_thread(until, happened, what)


async def restart(name: str, server: Weighbridge, balancer: Haproxy, load: Steady) -> None:
    tell(server, signal.SIGTERM)
    await seen(lambda: not balancer.takes(name), f"{name} is out of haproxy's rotation")
    assert await asyncio.to_thread(ended, server) == 0
    await load.more(CALLERS)
    await asyncio.to_thread(server.start)
    await seen(lambda: balancer.takes(name), f"{name} is back")
    await load.more(2 * CALLERS)


async def test_a_rolling_restart_behind_a_load_balancer_fails_no_call(
    tmp_path: Path,
    upstream: str,
    at_end: ExitStack,
    proof: Proof,
    start_haproxy: Callable[[Mapping[str, int]], Haproxy],
) -> None:
    """It neither retries nor sends a call elsewhere: what clients see is what the servers did."""
    forget(upstream)
    servers, key = two_servers(tmp_path, upstream, at_end)
    ports = {name: int(server.base_url.rpartition(":")[2]) for name, server in servers.items()}
    balancer = start_haproxy(ports)
    await seen(lambda: all(map(balancer.takes, servers)), "both are in rotation")
    load = Steady(balancer.url, key)
    loading = asyncio.get_running_loop().create_task(load.run())
    try:
        await load.more(CALLERS)
        for _ in range(ROUNDS):
            for name, server in servers.items():
                await restart(name, server, balancer, load)
    finally:
        load.over = True
        await loading
    assert load.failed == []
    statistics = balancer.servers()
    troubles = {
        name: [row[field] for field in ("econ", "eresp", "wretr", "wredis")] for name, row in statistics.items()
    }
    assert troubles == {name: ["0"] * 4 for name in servers}
    records = [record for server in servers.values() for record in server.records()]
    outcomes = compare(records, account(upstream), load.whole)
    assert outcomes == Counter(ok=len(load.whole))
    proof(restarts=2 * ROUNDS, calls=len(load.whole), by_server=[len(server.records()) for server in servers.values()])
