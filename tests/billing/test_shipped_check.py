"""A ledger file held against PostgreSQL: nothing is told of one that is shipped, and what differs is."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from proxy.billing import partitions
from proxy.billing.shipped_check import check
from proxy.store.database import Database
from tests.billing.sample import NOON, sample
from tests.billing.shipped import calls, put, records_of, ship_all
from tests.billing.test_ledger_file import opened
from tests.billing.test_reports import at_random

DAY = 86_400_000_000


def says(database: Database, path: Path) -> list[str]:
    return [finding.says for finding in check(database, path).findings]


def change(database: Database, statement: str) -> None:
    with database.noting() as connection:
        connection.exec_driver_sql("ALTER TABLE usage_records DISABLE TRIGGER USER")
        connection.exec_driver_sql(statement)


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_wrong_with_what_was_shipped_whatever_was_removed_on_either_side(
    tmp_path: Path, postgres_database: Database, seed: int
) -> None:
    chance, number = random.Random(seed), 0
    put(tmp_path / "other", *(at_random(1_000 + n, chance) for n in range(20)))
    ship_all(postgres_database, tmp_path / "other" / "ledger" / "0.db")
    for _ in range(5):
        records = [at_random(number + n, chance) for n in range(20)]
        number += 20
        for record in records:
            record.started_at -= chance.randrange(3) * 30 * DAY
            record.finished_at = record.started_at + 1
        path = put(tmp_path, *records)
        assert says(postgres_database, path) == []
        if chance.random() < 0.6:
            through = ship_all(postgres_database, path).seq
            assert check(postgres_database, path)[1:] == (through, 0, [])
        if chance.random() < 0.5:
            with closing(opened(tmp_path)) as file:
                file.remove(NOON + 100 * DAY, chance.randrange(20), check(postgres_database, path).through or 0)
        if chance.random() < 0.3:
            partitions.drop_before(postgres_database, NOON - 50 * DAY)
        assert says(postgres_database, path) == []


def test_a_file_that_postgresql_does_not_know_is_not_shipped(tmp_path: Path, postgres_database: Database) -> None:
    path = put(tmp_path, *calls(range(3)))
    assert check(postgres_database, path) == (records_of(path)[0][0], None, 3, [])


def test_what_differs_is_told(tmp_path: Path, postgres_database: Database) -> None:
    path = put(tmp_path, *calls(range(4)))
    ship_all(postgres_database, path)
    change(postgres_database, "DELETE FROM usage_records WHERE seq = 2")
    assert says(postgres_database, path) == [
        "of its records 1 to 4, PostgreSQL has 3 that cost 0.1008063 USD; here are 4 that cost 0.1344084 USD"
    ]
    change(postgres_database, "UPDATE file_spendings SET cost_usd = cost_usd + 1 WHERE project = 'acme'")
    assert says(postgres_database, path)[1:] == [
        "all that was shipped of it cost 0.134408401 USD in PostgreSQL and 0.1344084 here"
    ]


def test_a_record_that_postgresql_refused_is_told(tmp_path: Path, postgres_database: Database) -> None:
    chance = random.Random(1)
    huge = "".join(chr(chance.randrange(0x4E00, 0x9000)) for _ in range(9_000))
    path = put(tmp_path, sample("bad", request_id=huge), *calls(range(2)))
    ship_all(postgres_database, path)
    findings = check(postgres_database, path).findings
    assert (findings[0].check, findings[0].record_id) == ("shipped", "bad")
    assert len(findings) == 3
