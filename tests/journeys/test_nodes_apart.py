"""Two nodes that share all but the clock: limits, days and shipping hold; what one of them is to do, one does."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx2

from proxy.config.limits import parse_all
from proxy.control import event_table
from proxy.control.events import make
from proxy.store.database import Database, open_database
from proxy.tenants import keys, projects
from tests.clock import Clock
from tests.control.receiving import SECRET, receiver, told
from tests.fleet.books import differences, shipped
from tests.fleet.fleet import scaled_out, started
from tests.fleet.node import Node
from tests.journeys.limited import ASK, call_at_once
from tests.journeys.watching import body, until
from tests.postgres_servers import PostgresDatabase
from tests.redis_servers import RedisServer
from tests.stand import Section

PACIFIC = ZoneInfo("America/Los_Angeles")
APART_S = 5
LIMITS = {"minute": ["rpm=20"], "day": ["rpd=10"], "free": []}
EVENTS = 12


@dataclass
class Pair:
    """Two nodes on one Redis and one PostgreSQL, each with a wall clock of its own."""

    nodes: Sequence[Node]
    clocks: Sequence[Clock]
    held: Mapping[str, str]

    async def passed(self, who: str, count: int) -> int:
        """So many calls at once on each node; how many were let in. All others were refused for a limit."""
        calling = (call_at_once(node, self.held[who], ASK, body("hello"), count) for node in self.nodes)
        statuses = Counter(status for some in await asyncio.gather(*calling) for status in some)
        assert statuses.keys() <= {200, 429}
        return statuses[200]


@contextmanager
def pair(
    folder: Path, redis: RedisServer, database: PostgresDatabase, upstream: str, settings: Mapping[str, Section]
) -> Iterator[Pair]:
    clocks, held = [], dict[str, str]()
    for name in ("first", "second"):
        (folder / name).mkdir(parents=True)
        clocks.append(Clock(folder / name))
    shared = {**scaled_out(redis.url, database), **settings}
    nodes = [
        Node(folder / f"node{at}", upstream, shared, environment={**clock.environment, "HOOK": SECRET})
        for at, clock in enumerate(clocks)
    ]
    with ExitStack() as stack:
        started(nodes, lambda filled: held.update(tenants(filled)), stack)
        yield Pair(nodes, clocks, held)


def tenants(database: Database) -> dict[str, str]:
    now, held = time.time_ns() // 1000, {}
    for name, limits in LIMITS.items():
        projects.create(database, name, now, actor="test", limits=parse_all(limits))
        held[name] = keys.create(database, name, "test", now, secrets.randbelow, actor="test")[1]
    return held


def day(unix_us: int | None) -> str:
    """Where limits have their days (limits.timezone)."""
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=unix_us or 0)).astimezone(PACIFIC).date().isoformat()
    )


async def test_nodes_whose_clocks_are_apart_keep_limits_and_each_names_days_by_its_own(
    wall_clock: Clock, redis_server: RedisServer, postgres: PostgresDatabase, upstream: str, tmp_path: Path
) -> None:
    """Five seconds apart, one set back while it serves, midnight between them, one ahead by weeks: no minute and no day
    ever has more than the limit allows, each record's day is that of its node, and PostgreSQL has all of them, once."""
    # A stall of the machine, in which Redis seems to be away, must let nobody in.
    around = pair(tmp_path / "pair", redis_server, postgres, upstream, {"limits": {"on_redis_down": "deny"}})
    both = await asyncio.to_thread(around.__enter__)
    try:
        ahead = both.clocks[1]
        ahead.step(APART_S)
        began = time.monotonic()
        passed = await both.passed("minute", 60)
        ahead.step(-2 * APART_S)
        passed += await both.passed("minute", 30)
        minutes = 1 + int(time.monotonic() - began) // 60
        assert 20 <= passed <= 20 * minutes

        midnight = (both.clocks[0].moment().astimezone(PACIFIC) + timedelta(days=1)).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        both.clocks[0].set(midnight - timedelta(seconds=2))
        ahead.set(midnight + timedelta(seconds=APART_S - 2))
        await both.passed("day", 30)
        of_days = [record for node in both.nodes for record in node.records() if record.project == "day"]
        assert {record.period for record in of_days} <= {day_before(midnight), midnight.date().isoformat()}
        by_day = Counter(record.period for record in of_days)
        assert by_day[midnight.date().isoformat()] == 10
        assert by_day.total() <= 20
        assert all(record.period in (day(record.started_at), day(record.finished_at)) for record in of_days)

        for days in (40, -40):
            ahead.step(days * 86_400)
            assert await both.passed("free", 2) == 4
        await asyncio.to_thread(books_agree, both, postgres)
    finally:
        await asyncio.to_thread(around.__exit__, None, None, None)


def day_before(moment: datetime) -> str:
    return (moment - timedelta(hours=1)).date().isoformat()


def books_agree(both: Pair, database: PostgresDatabase) -> None:
    shipped(both.nodes, database)
    assert list(differences(both.nodes, database)) == []
    assert list(differences(both.nodes[:1], database)) != [], "another node's records are there, and go unseen"
    records = [record for node in both.nodes for record in node.records()]
    assert {record.outcome for record in records} == {"ok"}
    assert len({record.started_at // (86_400_000_000 * 28) for record in records}) > 1, "of more than one month"
    for node in both.nodes:
        until(lambda node=node: metric(node, "unshipped_records") == 0, "nothing waits to be shipped")  # type: ignore[misc]
        assert metric(node, "ledger_lag_seconds") == 0


def metric(node: Node, name: str) -> float:
    lines = httpx2.get(f"{node.admin_url}/metrics", timeout=30).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"weighbridge_{name} "))


def test_of_two_control_processes_one_does_what_is_to_be_done(
    redis_server: RedisServer, postgres: PostgresDatabase, upstream: str, tmp_path: Path, wall_clock: Clock
) -> None:
    """Events wait, and two could tell them: each is told once."""
    with receiver() as told_to:
        hook = {"events": {"webhook_url": f"{told_to.base_url}/hook", "webhook_secret_env": "HOOK"}}
        with pair(tmp_path / "pair", redis_server, postgres, upstream, hook) as both:
            both.clocks[1].step(APART_S)
            database, now = open_database(both.nodes[0].storage), time.time_ns() // 1000
            waiting = [make("test", {"number": at}, f"once {at}", now, f"{at:032x}") for at in range(EVENTS)]
            event_table.note(database, waiting)
            until(lambda: event_table.undelivered(database) == [], "all are told", 120)
            numbers = [event["data"]["number"] for event in told(told_to)]
    assert sorted(numbers) == list(range(EVENTS))
