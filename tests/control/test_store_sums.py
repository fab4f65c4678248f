"""Both sides of a move held against each other: whatever differs shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from proxy.billing.ledger_reading import ledger_files
from proxy.control import store_sums
from proxy.control.store_move import Move
from proxy.control.store_sums import Held, Month, Sums
from proxy.store.database import Database
from tests.billing.sample import NOON, sample
from tests.billing.shipped import ship_all
from tests.billing.test_reports import HOUR, written

pytestmark = pytest.mark.anyio

MONTH = 30 * 24 * HOUR


async def shipped(tmp_path: Path, database: Database) -> None:
    """Calls of two projects in two months."""
    calls = (
        sample("a", cost_usd=5),
        sample("b", cost_usd=None, project="zeta", started_at=NOON + HOUR),
        sample("c", cost_usd=7, started_at=NOON + MONTH),
        sample("d", kind="adjustment", cost_usd=-2, usage=None, total_token_count=None, candidates_token_count=None),
    )
    await written(tmp_path, *calls)
    ship_all(database, *ledger_files(tmp_path))


def compared(tmp_path: Path, database: Database) -> tuple[list[Held], list[Month]]:
    files = Move(database, tmp_path, database).file_ids()
    ours, theirs = store_sums.of_files(files.values()), store_sums.of_postgres(database, files)
    return store_sums.ledgers(ours, theirs), store_sums.months(ours, theirs)


async def test_months_are_those_of_utc_with_calls_tokens_and_money(tmp_path: Path, postgres_database: Database) -> None:
    await shipped(tmp_path, postgres_database)
    held, months = compared(tmp_path, postgres_database)
    november, december = Sums(2, 2 * 1_127 + 7, 3), Sums(1, 1_127, 7)
    assert months == [Month("2026-11", november, november, True), Month("2026-12", december, december, True)]
    assert held == [Held("usage_records", 4, 4, True), Held("file_spendings, nano-dollars", 10, 10, True)]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ("UPDATE usage_hourly SET images = images + 1 WHERE project = 'zeta'", ["2026-11"]),
        ("UPDATE usage_hourly SET project = 'other' WHERE project = 'zeta'", ["2026-11"]),
        ("DELETE FROM usage_hourly WHERE cost_usd = 7", ["2026-12"]),
        ("UPDATE usage_hourly SET hour = hour - 86400 * 30 WHERE cost_usd = 3", ["2026-10", "2026-11"]),
        ("UPDATE file_spendings SET project = 'other' WHERE cost_usd = 10", ["file_spendings, nano-dollars"]),
        ("UPDATE file_spendings SET file_id = 'other' WHERE cost_usd = 10", ["file_spendings, nano-dollars"]),
        (
            "INSERT INTO refused_records SELECT file_id, seq, record_id, 'why', '{}' FROM usage_records LIMIT 1",
            ["refused_records"],
        ),
    ],
)
async def test_whatever_differs_shows(
    tmp_path: Path, postgres_database: Database, change: str, differs: list[str]
) -> None:
    await shipped(tmp_path, postgres_database)
    with postgres_database.noting() as connection:
        connection.execute(text(change))
    held, months = compared(tmp_path, postgres_database)
    found = [one.what for one in held if not one.equal] + [one.month for one in months if not one.equal]
    assert found == differs
