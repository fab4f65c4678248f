"""What a fleet has written down: the ledger files of its nodes, and what PostgreSQL has of them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.billing.records import COLUMNS, UsageRecord
from tests.fleet.fleet import Fleet
from tests.fleet.node import Node
from tests.journeys.watching import until
from tests.postgres_servers import PostgresDatabase

CATCHES_UP_S = 120.0
"""Who was away is asked again after a pause that grows."""
HOURLY = "hour, project, key_id, model, calls, cost_usd"


@dataclass
class Books:
    records: Sequence[UsageRecord]
    """Of all ledger files."""
    wrong: list[str] = field(default_factory=list)
    """Where PostgreSQL says another thing than the files."""


def books(running: Fleet) -> Books:
    """Waits until all is shipped, while the nodes run."""
    shipped(running.nodes, running.database)
    return Books(running.records(), list(differences(running.nodes, running.database)))


def shipped(nodes: Sequence[Node], database: PostgresDatabase) -> None:
    """Waits until PostgreSQL has every record that the nodes have written."""
    with database.client() as client:

        def all_there() -> bool:
            has = dict(client.execute("SELECT file_id, through_seq FROM shipped").fetchall())
            return all(has.get(file_id, 0) >= last for file_id, last in _ends(nodes))

        until(all_there, "all is shipped", CATCHES_UP_S)


def differences(nodes: Sequence[Node], database: PostgresDatabase) -> Iterator[str]:
    """Where PostgreSQL doesn't say just what the ledger files say."""
    columns = ", ".join(COLUMNS)
    with database.client() as client:
        stored = client.execute(f"SELECT file_id, seq, {columns} FROM usage_records").fetchall()
        refused = client.execute("SELECT count(*) FROM refused_records").fetchone()
        hours = client.execute(f"SELECT {HOURLY} FROM usage_hourly").fetchall()
        spendings = client.execute("SELECT file_id, period, project, key_id, model, cost_usd FROM file_spendings")
        spent = {tuple(key): cost for *key, cost in spendings.fetchall() if cost}
    files = [
        row
        for path in _files(nodes)
        for row in _rows(path, f"SELECT file.file_id, seq, {columns} FROM usage_records, file")
    ]
    if twice := [row for row, count in Counter(stored).items() if count > 1]:
        yield f"in PostgreSQL twice: {twice[:3]}"
    if missing := set(files) - set(stored):
        yield f"not in PostgreSQL: {len(missing)}, such as {next(iter(missing))}"
    if beyond := set(stored) - set(files):
        yield f"in PostgreSQL alone: {len(beyond)}, such as {next(iter(beyond))}"
    if refused != (0,):
        yield f"refused by PostgreSQL: {refused}"
    if _summed(hours) != _summed(
        row for path in _files(nodes) for row in _rows(path, f"SELECT {HOURLY} FROM usage_hourly")
    ):
        yield "other hourly sums in PostgreSQL"
    owed = Counter[tuple[Any, ...]]()
    for record in (dict(zip(("file_id", "seq", *COLUMNS), row, strict=True)) for row in files):
        key = tuple(record[name] for name in ("file_id", "period", "project", "key_id", "model"))
        owed[key] += record["cost_usd"] or 0
    if spent != {key: cost for key, cost in owed.items() if cost}:
        yield "other spendings of files in PostgreSQL"


def _summed(rows: Any) -> dict[Any, list[int]]:
    """Calls and cost by all that stands before them."""
    found: dict[Any, list[int]] = {}
    for *key, calls, cost in rows:
        sums = found.setdefault(tuple(key), [0, 0])
        sums[0] += calls or 0
        sums[1] += cost or 0
    return found


def _files(nodes: Sequence[Node]) -> list[Path]:
    return [path for node in nodes for path in sorted((node.data_dir / "ledger").glob("*.db"))]


def _ends(nodes: Sequence[Node]) -> Iterator[tuple[str, int]]:
    for path in _files(nodes):
        ((file_id, last),) = _rows(path, "SELECT file_id, (SELECT coalesce(max(seq), 0) FROM usage_records) FROM file")
        yield file_id, last


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
