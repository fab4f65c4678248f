"""The fleet whole: its stores, its nodes, and haproxy before them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.billing.records import UsageRecord
from proxy.store.database import Database, open_database
from proxy.store.sqlite import FILE_NAME
from tests.fleet.node import PASSWORD_ENV, Node
from tests.haproxy_servers import ELSEWHERE, Haproxy
from tests.postgres_servers import PostgresDatabase, PostgresServer
from tests.redis_servers import Watched, running_sentinel
from tests.stand import Section

APPENDING = ("--appendonly", "yes", "--appendfsync", "everysec")
"""What Redis answered a second ago and more, it knows again when it is started anew."""


def scaled_out(redis_url: str, database: PostgresDatabase) -> dict[str, Section]:
    """The settings of a node that shares both stores with others; budgets are held so that they are never over."""
    shared = {"redis_url": redis_url, "database_url": database.url, "database_password_env": PASSWORD_ENV}
    return {"storage": shared, "limits": {"hold": "worst"}}


def started(nodes: Sequence[Node], fill: Callable[[Database], object], at_end: ExitStack) -> None:
    """Starts all nodes on one set of projects and keys, which `fill` makes."""
    first, *others = nodes
    shared = first.storage.database_url
    if shared:
        first.run("db", "upgrade")
    fill(open_database(first.storage))
    for node in () if shared else others:
        node.data_dir.mkdir(parents=True)
        shutil.copy(first.data_dir / FILE_NAME, node.data_dir / FILE_NAME)
    for node in nodes:
        at_end.enter_context(closing(node))
        node.spawn()
    for node in nodes:
        node.opened()


@dataclass
class Fleet:
    """`nodes` run behind `balancer`."""

    nodes: Sequence[Node]
    redis: Watched
    postgres: PostgresServer
    database: PostgresDatabase
    balancer: Haproxy

    @property
    def workers(self) -> int:
        return sum(node.workers for node in self.nodes)

    def records(self) -> list[UsageRecord]:
        """All that the ledger files of all nodes hold."""
        return [record for node in self.nodes for record in node.records()]


@contextmanager
def fleet(
    folder: Path,
    postgres: PostgresServer,
    upstream_url: str,
    fill: Callable[[Database], object],
    start_haproxy: Callable[..., Haproxy],
    *,
    nodes: int = 2,
    workers: int = 2,
    settings: Mapping[str, Section] | None = None,
) -> Iterator[Fleet]:
    """A running fleet, whose Redis has a replica and a sentinel."""
    with ExitStack() as stack:
        redis = stack.enter_context(running_sentinel(folder / "redis", *APPENDING))
        database = postgres.database()
        shared = {**scaled_out(redis.url, database), **(settings or {})}
        made = [
            Node(folder / name, upstream_url, shared, name=name, workers=workers)
            for name in (f"node{number}" for number in range(nodes))
        ]
        started(made, fill, stack)
        balancer = start_haproxy({node.name: node.port for node in made}, ELSEWHERE)
        yield Fleet(made, redis, postgres, database, balancer)
