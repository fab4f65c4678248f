"""What shipped files cost, by the periods of budgets."""

from __future__ import annotations

from pathlib import Path

from proxy.billing.file_spendings import of_files
from proxy.billing.ledger_reading import reading
from proxy.store.database import Database
from tests.billing.sample import sample
from tests.billing.shipped import put, ship_all


def _id(path: Path) -> str:
    with reading(path) as connection:
        return str(connection.execute("SELECT file_id FROM file").fetchone()[0])


def test_spendings_of_other_files_by_day_month_and_in_all(postgres_database: Database, tmp_path: Path) -> None:
    days = ("2026-09-30", "2026-10-31", "2026-11-20", "2026-11-21", "2026-11-21")
    mine = put(tmp_path, sample("mine", period=days[-1], cost_usd=1_000))
    theirs = put(
        tmp_path,
        *(sample(f"call-{at}", period=day, cost_usd=10**at) for at, day in enumerate(days)),
        sample("other", project="zeta", period=days[-1], cost_usd=7),
        slot="1",
    )
    for path in (mine, theirs):
        ship_all(postgres_database, path)
    found = list(of_files(postgres_database, [_id(mine)], "2026-11-20", "2026-10", sample("x").project))
    assert {one.file_id for one in found} == {_id(theirs)}
    assert {one.project for one in found} == {sample("x").project}
    assert {one.period: one.usd for one in found} == {
        "total": 11_111,
        "2026-10": 10,
        "2026-11": 11_100,
        "2026-11-20": 100,
        "2026-11-21": 11_000,
    }
    of_all = list(of_files(postgres_database, [], "2026-11-21", "2026-11"))
    assert sum(one.usd for one in of_all if one.period == "total") == 11_111 + 1_000 + 7
