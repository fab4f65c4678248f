"""Months of usage_records in PostgreSQL: made while others read and write, dropped whole, and never waited for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.billing import partitions
from proxy.billing.partitions import Partition, ahead, partition_of
from proxy.store.database import Database
from tests.billing.sample import NOON, sample
from tests.billing.shipped import calls, put, records_in, rows, ship_all

DAY = 86_400_000_000


def there(database: Database) -> list[str]:
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_records'::regclass"
    return sorted(name for (name,) in rows(database, query))


@contextmanager
def long_reader(database: Database) -> Iterator[None]:
    """Somebody who has begun to read records, and doesn't end."""
    with database.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM usage_records").all()
        yield


@pytest.mark.parametrize(
    ("at", "name", "since", "until"),
    [
        ("2026-11-21T12:00:00", "usage_records_2026_11", "2026-11-01", "2026-12-01"),
        ("2026-12-31T23:59:59.999999", "usage_records_2026_12", "2026-12-01", "2027-01-01"),
        ("2027-01-01T00:00:00", "usage_records_2027_01", "2027-01-01", "2027-02-01"),
        ("2020-01-01T00:00:00", "usage_records_2020_01", "2020-01-01", "2020-02-01"),
        ("2019-12-31T23:59:59", "usage_records_early", None, "2020-01-01"),
        ("2100-01-01T00:00:00", "usage_records_late", "2100-01-01", None),
    ],
)
def test_a_call_belongs_to_the_month_in_which_it_started(
    at: str, name: str, since: str | None, until: str | None
) -> None:
    assert partition_of(microseconds(at)) == Partition(
        name, since and microseconds(since), until and microseconds(until)
    )


def microseconds(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)


def test_months_ahead_follow_each_other() -> None:
    assert [one.name[-7:] for one in ahead(NOON, 3)] == ["2026_11", "2026_12", "2027_01", "2027_02"]
    assert [one.name for one in ahead(2**62, 3)] == ["usage_records_late"]


def test_many_make_the_same_partitions_at_once(postgres_database: Database) -> None:
    begin = threading.Barrier(6)

    def make(_: int) -> None:
        begin.wait(30)
        partitions.make(postgres_database, ahead(NOON, 2))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(make, range(6)))
    assert there(postgres_database) == [one.name for one in ahead(NOON, 2)]


def test_a_partition_is_made_while_somebody_reads_for_long(tmp_path: Path, postgres_database: Database) -> None:
    """And records go into it."""
    ship_all(postgres_database, put(tmp_path, *calls(range(3))))
    with long_reader(postgres_database):
        ship_all(postgres_database, put(tmp_path, sample("next", started_at=NOON + 40 * DAY)))
        assert len(records_in(postgres_database)) == 4


def test_retention_drops_months_that_are_over_and_leaves_their_sums_and_a_mark(
    tmp_path: Path, postgres_database: Database
) -> None:
    times = [0, NOON - 100 * DAY, NOON - 65 * DAY, NOON]
    ship_all(postgres_database, put(tmp_path, *(sample(f"{at}", started_at=at) for at in times)))
    hours = rows(postgres_database, "SELECT * FROM usage_hourly ORDER BY hour")
    assert partitions.drop_before(postgres_database, microseconds("2026-10-01")) == [
        "usage_records_2026_08",
        "usage_records_2026_09",
    ]
    assert there(postgres_database) == ["usage_records_2026_11", "usage_records_early"]
    assert rows(postgres_database, "SELECT * FROM usage_hourly ORDER BY hour") == hours
    assert rows(postgres_database, "SELECT * FROM removed_partitions ORDER BY name") == [
        ("usage_records_2026_08", microseconds("2026-09-01")),
        ("usage_records_2026_09", microseconds("2026-10-01")),
    ]
    assert partitions.drop_before(postgres_database, microseconds("2026-11-30")) == []


def test_nobody_waits_for_a_drop_that_waits_for_a_reader(
    tmp_path: Path, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one reads for long, a drop gives up, again and again; records are read and inserted all the while."""
    monkeypatch.setattr(partitions, "LOCK_MS", 50)
    ship_all(postgres_database, put(tmp_path, sample("old", started_at=NOON - 65 * DAY), *calls(range(3))))
    ended, dropped, tried = threading.Event(), list[str](), 0

    def drop() -> None:
        nonlocal tried
        while not ended.is_set():
            dropped.extend(partitions.drop_before(postgres_database, NOON - 40 * DAY))
            tried += 1

    dropping = threading.Thread(target=drop)
    with long_reader(postgres_database):
        dropping.start()
        number = 10
        while tried < 3 or number < 20:
            ship_all(postgres_database, put(tmp_path, *calls([number])))
            number += 1
            assert len(records_in(postgres_database)) == number - 10 + 4
        assert dropped == []
    ended.set()
    dropping.join(30)
    partitions.drop_before(postgres_database, NOON - 40 * DAY)
    assert there(postgres_database) == ["usage_records_2026_11"]
    assert len(records_in(postgres_database)) == number - 10 + 3
