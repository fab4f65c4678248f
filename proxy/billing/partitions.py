"""The partitions of usage_records in PostgreSQL: one a month of UTC, made ahead and on demand, dropped by retention."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from sqlalchemy import Connection, text

from proxy.store.database import Database, StoreError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

LOCK_MS = 200
"""How long a change of partitions waits for whoever is in its way. So long, at most, do others wait behind it."""
_ONE_AT_A_TIME = 0x7765696768_02
"""Of an advisory lock: makers of partitions wait for each other."""
_FIRST_YEAR, _END_YEAR = 2020, 2100
"""What a clock says before or after that is wrong: it shares one partition on either side."""
_NAME = re.compile(r"usage_records_([0-9]{4})_([0-9]{2})")
_DROPPED_BEFORE = text("SELECT coalesce(max(removed_before), 0) FROM removed_partitions WHERE name ~ :name")
_THERE = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_records'::regclass")


class Partition(NamedTuple):
    """One month, by its table: of calls that started from `since` to before `until`, Unix microseconds; None: ever."""

    name: str
    since: int | None
    until: int | None


def partition_of(started_at: int) -> Partition:
    """Where a call's record belongs that started then."""
    if started_at < _month_begin(_FIRST_YEAR, 1):
        return Partition("usage_records_early", None, _month_begin(_FIRST_YEAR, 1))
    if started_at >= _month_begin(_END_YEAR, 1):
        return Partition("usage_records_late", _month_begin(_END_YEAR, 1), None)
    month = datetime.fromtimestamp(started_at / 1_000_000, UTC)
    return _partition(month.year, month.month)


def ahead(now_us: int, months: int) -> list[Partition]:
    """The partition of a time, and those of so many months behind it."""
    found = [partition_of(now_us)]
    for _ in range(months):
        if (until := found[-1].until) is not None:
            found.append(partition_of(until))
    return found


def make(database: Database, wanted: Iterable[Partition]) -> None:
    """Makes those that aren't there. Reading and inserting go on meanwhile. Raises StoreError.

    A table that is attached takes a lock that neither readers nor writers of records ask for, unlike one that is made
    as a partition: https://www.postgresql.org/docs/current/ddl-partitioning.html
    """
    with database.noting() as connection:
        if missing := _missing(connection, wanted):
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})"))
            for partition in _missing(connection, missing):
                bounds = (
                    "MINVALUE" if partition.since is None else partition.since,
                    "MAXVALUE" if partition.until is None else partition.until,
                )
                for statement in (
                    f"CREATE TABLE {partition.name} (LIKE usage_records)",
                    f"ALTER TABLE usage_records ATTACH PARTITION {partition.name}"
                    f" FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})",
                ):
                    connection.execute(text(statement))


def drop_before(database: Database, before: int) -> list[str]:
    """Drops each month that was over at `before` (Unix microseconds); returns the names of those. Raises StoreError.

    Hourly sums stay. Each is a transaction of its own, which gives up after LOCK_MS where somebody reads records for
    longer: it stays until the next time. What a wrong clock wrote into no month stays for good.
    """
    with database.reading() as connection:
        over = [one for one in _months(connection) if one.until is not None and one.until <= before]
    return [partition.name for partition in over if _drop(database, partition)]


def dropped_before(connection: Connection) -> int:
    """Months that were over at this Unix microsecond were dropped, or are about to be; 0: none was."""
    return int(connection.execute(_DROPPED_BEFORE, {"name": f"^{_NAME.pattern}$"}).scalar_one())


def _drop(database: Database, partition: Partition) -> bool:
    try:
        with database.noting() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
            connection.execute(text(f"DROP TABLE {partition.name}"))
            connection.execute(
                text("INSERT INTO removed_partitions VALUES (:name, :until) ON CONFLICT DO NOTHING"),
                {"name": partition.name, "until": partition.until},
            )
    except StoreError as error:
        if error.sqlstate != "55P03":
            raise
        log.warning("ledger_partition_in_use", partition=partition.name, what="it is dropped when nobody reads it")
        return False
    log.info("ledger_partition_dropped", partition=partition.name)
    return True


def _missing(connection: Connection, wanted: Iterable[Partition]) -> list[Partition]:
    there: Collection[str] = set(connection.execute(_THERE).scalars())
    return [partition for partition in wanted if partition.name not in there]


def _months(connection: Connection) -> list[Partition]:
    found = (_NAME.fullmatch(name) for name in connection.execute(_THERE).scalars())
    return sorted(_partition(int(month[1]), int(month[2])) for month in found if month)


def _partition(year: int, month: int) -> Partition:
    until = _month_begin(year + month // 12, month % 12 + 1)
    return Partition(f"usage_records_{year:04}_{month:02}", _month_begin(year, month), until)


def _month_begin(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1_000_000
