"""One limit for many workers: of 2,000 calls at once exactly as many pass as it allows, on two nodes.

Four workers of one node have the same in tests/journeys/test_workers.py.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from proxy.config.limits import parse_all
from proxy.store.database import Database
from proxy.tenants import keys, projects
from tests.fleet.fleet import scaled_out, started
from tests.fleet.node import Node
from tests.journeys.limited import ASK, AT_ONCE, call_at_once, went_up
from tests.journeys.numbered import forget
from tests.journeys.watching import DEADLINE_S, body
from tests.postgres_servers import PostgresDatabase
from tests.redis_servers import RedisServer

LIMIT = 100


def fill(database: Database, held: list[str]) -> None:
    now = time.time_ns() // 1000
    projects.create(database, "alice", now, actor="test", limits=parse_all([f"rpm={LIMIT}", "rpd=1000"]))
    held.append(keys.create(database, "alice", "test", now, secrets.randbelow, actor="test")[1])


async def test_of_2000_calls_at_once_exactly_as_many_pass_as_the_limit_allows(
    redis_server: RedisServer,
    postgres: PostgresDatabase,
    upstream: str,
    tmp_path: Path,
    at_end: ExitStack,
) -> None:
    """None of those refused reaches the upstream and every one that passed is on the bill.

    Where the machine is so busy that Redis seems to be away, nobody is let in for it: those come again.
    """
    forget(upstream)
    settings, held = scaled_out(redis_server.url, postgres) | {"limits": {"on_redis_down": "deny"}}, list[str]()
    nodes = [Node(tmp_path / f"node{number}", upstream, settings, workers=2) for number in range(2)]
    await asyncio.to_thread(started, nodes, lambda database: fill(database, held), at_end)
    share = AT_ONCE // len(nodes)
    calling = (call_at_once(node, held[0], ASK, body("hello"), share) for node in nodes)
    statuses = Counter(status for some in await asyncio.gather(*calling) for status in some)
    async with asyncio.timeout(DEADLINE_S):
        while denied := statuses.pop(503, 0):
            statuses.update(await call_at_once(nodes[0], held[0], ASK, body("hello"), denied))
    assert statuses == {200: LIMIT, 429: AT_ONCE - LIMIT}
    assert went_up(upstream) == sum(len(node.records()) for node in nodes) == LIMIT
