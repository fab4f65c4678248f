"""An upgrade under load, node by node: no call fails for it, and none is missing on the bill."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop

from tests.fleet.books import Books
from tests.fleet.earlier import checked_out, filled
from tests.fleet.faults import Fault, budgets_open
from tests.fleet.node import ROOT, Node
from tests.fleet.run import Load, telling
from tests.haproxy_servers import ELSEWHERE, Haproxy
from tests.redis_servers import RedisServer

BEFORE = "2189124"
"""The last commit that knew one worker a node, and no PostgreSQL."""
LAME_DUCK_S = 2.0
"""Ten times what haproxy lets pass between two looks."""


@pytest.fixture
def earlier_nodes(redis_server: RedisServer, tmp_path: Path) -> Iterator[tuple[list[Node], Load]]:
    """Two of that version, which share a Redis, each with a database of its own; and a load for them."""
    tree, load = checked_out(BEFORE, tmp_path / "earlier"), Load(seed=6, count=600, a_second=50)
    settings = {
        "server": {"lame_duck_seconds": LAME_DUCK_S},
        "storage": {"redis_url": redis_server.url},
        "limits": {"hold": "worst"},
    }
    first, second = (
        Node(tmp_path / name, load.upstream.base_url, settings, name=name, tree=tree) for name in ("node0", "node1")
    )
    load.secrets |= filled(tree, first.data_dir, load.count)
    second.data_dir.mkdir()
    shutil.copy(first.data_dir / "weighbridge.db", second.data_dir)
    with ExitStack() as stack:
        for node in (first, second):
            stack.callback(node.close)
            node.spawn()
        for node in (first, second):
            node.opened()
        yield [first, second], load


def test_a_rolling_upgrade_fails_no_call_and_loses_none(
    earlier_nodes: tuple[list[Node], Load], start_haproxy: Callable[..., Haproxy]
) -> None:
    """Each node in turn is told to end, ends when its calls have, and is started on the same files as this version,
    with two workers. Meanwhile both versions count in one Redis: no limit is over; budgets wait for those who join."""
    nodes, load = earlier_nodes
    joined: list[Fault] = []

    async def upgrade() -> None:
        for node in nodes:
            await load.tally.more("made", 100)
            assert await asyncio.to_thread(node.stop, signal.SIGTERM) == 0, node.log()
            node.tree, node.workers = ROOT, 2
            await load.tally.more("made", 20)
            joining = Fault("node_upgraded", time.monotonic(), over=time.monotonic())
            await asyncio.to_thread(node.start)
            await budgets_open(load.tally)
            joining.settled = time.monotonic()
            joined.append(joining)
        await load.tally.more("made", 100)

    async def run(base_url: str) -> None:
        await load.upstream.up()
        async with telling(nodes):
            await load.lasts(base_url, upgrade)
            for node in nodes:
                assert await asyncio.to_thread(node.stop) == 0, node.log()
        await load.upstream.down()

    balancer = start_haproxy({node.name: node.port for node in nodes}, ELSEWHERE)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(balancer.url))
    verdict = load.verdict(Books([record for node in nodes for record in node.records()]), joined)
    assert verdict.failures() == []
    assert {"ok", "upstream_error"} <= verdict.reckoning.outcomes.keys() <= {"ok", "upstream_error", "truncated"}
    assert len(verdict.callers.seen) >= load.count
