"""What was spent since a moment, or ever, by project, key and model: what budgets begin with. Exact to the record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from proxy.billing.ledger_reading import reading
from proxy.billing.recent import OUT_OF_ORDER_US
from proxy.billing.records import first_id_of
from proxy.billing.reports import HOUR, HOURS_OF_PROJECT

_HOUR_US = HOUR * 1_000_000
_WHO = "project, key_id, model"
_BY_HOUR = f"SELECT {_WHO}, sum(cost_usd) FROM usage_hourly WHERE hour >= :first GROUP BY hour, {_WHO}"  # noqa: S608
"""The primary key's own order: nothing is sorted."""
_OF_PROJECT = f"SELECT {_WHO}, sum(cost_usd) FROM {HOURS_OF_PROJECT} GROUP BY key_id, model"  # noqa: S608
_EDGE = (
    f"SELECT {_WHO}, coalesce(cost_usd, 0) FROM usage_records"  # noqa: S608
    " WHERE started_at >= :since AND started_at < :end"
)
# A call's id is made when it starts, and ids are in an index; what is no call has an index of its own.
_CALLS = f"{_EDGE} AND kind IN ('call', 'turn') AND record_id >= :first_id AND record_id < :end_id"
_OTHERS = f"{_EDGE} AND kind NOT IN ('call', 'turn')"
_WRITTEN_LAST = "SELECT started_at FROM usage_records ORDER BY seq DESC LIMIT 1"
_MINE = " AND project = :project"


Who = tuple[str, str, str]
"""Project, key id and model; the latter two are empty where an adjustment is of none."""


def spent(files: Iterable[Path], since: int | None = None, project: str | None = None) -> dict[Who, int]:
    """The nano-dollars on the bill for what started at `since` (Unix microseconds) or later; None: ever.

    Whoever has no record is left out. With `project`, only its own are read.

    It reads hourly sums, and where `since` is no whole hour (a day may begin at half past), single records up to the
    next one: these must still be there, so no more than `retention_days` ago. Raises LedgerUnusable.
    """
    sums: dict[Who, int] = {}
    for path in files:
        with reading(path) as connection:
            connection.execute("BEGIN")
            for *who, cost in _parts(connection, since, project):
                of, key_id, model = who
                sums[of, key_id, model] = sums.get((of, key_id, model), 0) + cost
    return sums


def last_times(files: Iterable[Path]) -> set[int]:
    """When the ledger's last calls started, in Unix microseconds: in each file that which was written last, and over
    all those of the latest hour, by its begin and end. Raises LedgerUnusable."""
    times, hours = set[int](), set[int]()
    for path in files:
        with reading(path) as connection:
            hours.update(
                row[0] for row in connection.execute("SELECT max(hour) FROM usage_hourly") if row[0] is not None
            )
            times.update(row[0] for row in connection.execute(_WRITTEN_LAST))
    if hours:
        times |= {max(hours) * 1_000_000, max(hours) * 1_000_000 + _HOUR_US - 1}
    return times


def _parts(connection: Connection, since: int | None, project: str | None) -> Iterable[tuple[Any, ...]]:
    """Whose, and nano-dollars, of each hour, and of the records before the first whole hour."""
    oldest, newest = connection.execute(
        "SELECT (SELECT min(hour) FROM usage_hourly), (SELECT max(hour) FROM usage_hourly)"
    ).fetchone()
    if newest is None:
        return
    end = None if since is None else -(-since // _HOUR_US) * _HOUR_US
    hours = {"first": oldest if end is None else max(oldest, end // 1_000_000), "end": newest + HOUR}
    yield from connection.execute(_BY_HOUR if project is None else _OF_PROJECT, hours | {"project": project})
    if since is None or end is None or since == end:
        return
    edge = {
        "since": since,
        "end": end,
        "first_id": first_id_of(since - OUT_OF_ORDER_US),
        "end_id": first_id_of(end + OUT_OF_ORDER_US),
        "project": project,
    }
    for select in (_CALLS, _OTHERS):
        yield from connection.execute(select + ("" if project is None else _MINE), edge)
