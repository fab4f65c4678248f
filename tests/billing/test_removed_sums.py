"""Sums of records that retention removed before PostgreSQL had them: shipped with the file, exactly once."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from proxy.billing.ledger_reading import file_id_of, reading, removed
from proxy.billing.periods import Days
from proxy.billing.removed_sums import removed_sums
from proxy.billing.shipping import Cursor, Lack, Moved, Place, Shipping, lack, look
from proxy.store.database import Database
from tests.billing.sample import NOON, sample
from tests.billing.shipped import hours_in, hours_of, rows, ship_all
from tests.billing.test_ledger_file import opened
from tests.billing.test_reports import HOUR, written

pytestmark = pytest.mark.anyio

day_of = Days("Asia/Kathmandu").name  # whose days begin at 18:15 UTC


async def remains(data_dir: Path, kept: int = 60) -> Path:
    """A file of calls of three days, some of them out of order, of which the newest `kept` are left."""
    draw = random.Random(kept)
    calls = [
        sample(
            f"{number:03}",
            started_at=NOON + number * HOUR // 2 - draw.randrange(HOUR * 3),
            finished_at=NOON + number * HOUR // 2,
            project=draw.choice(["acme", "globex"]),
            cost_usd=draw.choice([None, draw.randrange(10**9), -5]),
            kind=draw.choice(["call", "adjustment"]),
            period=day_of(NOON + number * HOUR // 2),
            service_tier=draw.choice([None, "priority", "a\0b", "x" * 500]),
        )
        for number in range(150)
    ]
    [path] = await written(data_dir, *calls)
    with closing(opened(data_dir)) as file:
        assert file.remove(NOON + 10**15, 150 - kept) == 150 - kept
    return path


def start(database: Database, path: Path) -> tuple[str, Cursor]:
    with reading(path) as connection:
        file_id = file_id_of(connection)
    return file_id, look(database, {file_id: Place("node", "0")}, [])[file_id]


def removed_before(path: Path) -> int:
    with reading(path) as connection:
        return removed(connection).before


def lacking(path: Path, cursor: Cursor) -> Lack | None:
    with reading(path) as connection:
        return lack(connection, cursor, day_of)


@pytest.mark.parametrize("kept", [60, 1])
async def test_hours_and_spendings_are_those_of_the_file(
    tmp_path: Path, postgres_database: Database, kept: int
) -> None:
    path = await remains(tmp_path, kept)
    file_id, cursor = start(postgres_database, path)
    found = lacking(path, cursor)
    assert found is not None
    assert (found.through, found.missing) == (150 - kept, 150 - kept)
    assert Shipping(postgres_database).restart(file_id, cursor, found) == Cursor(150 - kept)
    assert lacking(path, Cursor(150 - kept)) is None
    ship_all(postgres_database, path)
    assert told(hours_in(postgres_database)) == told(hours_of(path))
    spent = rows(postgres_database, "SELECT file_id, project, sum(cost_usd)::bigint FROM file_spendings GROUP BY 1, 2")
    with reading(path) as connection:
        wanted = connection.execute("SELECT file_id, project, sum(cost_usd) FROM usage_hourly, file GROUP BY 1, 2")
        assert sorted(spent) == sorted(wanted.fetchall())


def told(hours: list[tuple[object, ...]]) -> Counter[object]:
    """By hour and project: of a tier, PostgreSQL keeps less."""
    sums: Counter[object] = Counter()
    for row in hours:
        sums.update({(row[0], row[1], at): value for at, value in enumerate(row) if at > 8})
    return sums


async def test_they_are_added_in_the_transaction_that_moves_the_cursor(
    tmp_path: Path, postgres_database: Database
) -> None:
    """Whoever comes second finds it moved, and adds nothing."""
    path = await remains(tmp_path)
    file_id, cursor = start(postgres_database, path)
    found = lacking(path, cursor)
    assert found is not None
    Shipping(postgres_database).restart(file_id, cursor, found)
    hours = hours_in(postgres_database)
    assert hours
    with pytest.raises(Moved):
        Shipping(postgres_database).restart(file_id, cursor, found)
    assert hours_in(postgres_database) == hours


async def test_a_file_that_is_shipped_in_part_brings_no_sums(tmp_path: Path, postgres_database: Database) -> None:
    """Those of what PostgreSQL has already are in its hours."""
    path = await remains(tmp_path)
    assert lacking(path, Cursor(40, "039")) == Lack(90, 50, removed_before(path))


async def test_a_days_spending_is_of_the_day_on_which_its_hour_began(tmp_path: Path) -> None:
    calls = [sample(f"{n}", started_at=NOON + n * HOUR, finished_at=None, cost_usd=10**n) for n in range(9)]
    [path] = await written(tmp_path, *calls)
    with closing(opened(tmp_path)) as file:
        assert file.remove(NOON + 10**15, 8) == 8
    with reading(path) as connection:
        spent = Counter[str]()
        for row in removed_sums(connection, day_of):
            spent[row["period"]] += row["cost_usd"]
    assert spent == {"2026-11-21": 1111111, "2026-11-22": 10_000_000}


async def test_a_file_from_which_nothing_was_removed_is_not_read(tmp_path: Path) -> None:
    [path] = await written(tmp_path, sample("a"))
    with reading(path) as connection:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection.execute("SELECT * FROM file").fetchall()
        connection.set_progress_handler(step, 1)
        assert removed_sums(connection, day_of) == []
    assert steps < 30
