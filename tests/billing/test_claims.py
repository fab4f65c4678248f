"""Ids of adjustments claimed in PostgreSQL: each is one process's, and is written as it was claimed."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from proxy.billing import adjustments, claims
from proxy.billing.adjustments import AdjustmentConflict, AdjustmentUnderWay
from proxy.billing.claims import Claim, claim
from proxy.billing.records import UsageRecord
from proxy.store.database import Database
from tests.billing.sample import NOON, sample


def adjustment(record_id: str, at: int = 0, cost: int = -5) -> UsageRecord:
    return sample(record_id, kind="adjustment", operation="adjustment", cost_usd=cost, started_at=NOON + at, usage=None)


def grow_old(database: Database) -> None:
    """As if a minute had passed."""
    with database.noting() as connection:
        connection.execute(
            text(f"UPDATE adjustment_claims SET claimed_at = claimed_at - {claims.WRITTEN_WITHIN_S}000000")
        )


def test_an_id_is_the_first_ones_and_another_waits(postgres_database: Database) -> None:
    first, second = adjustment("adj_1"), adjustment("adj_1", at=7)
    assert claim(postgres_database, [first]) == [Claim(first, free=True)]
    assert claim(postgres_database, [second, adjustment("adj_2")]) == [
        Claim(first, free=False),
        Claim(adjustment("adj_2"), free=True),
    ]
    with pytest.raises(AdjustmentUnderWay, match=r"adj_1 is being written .* try again in a minute"):
        adjustments.claimed(postgres_database, second)
    with pytest.raises(AdjustmentConflict):
        adjustments.claimed(postgres_database, adjustment("adj_1", cost=-6))


def test_what_was_claimed_and_not_written_within_a_minute_is_written_by_whoever_asks_as_it_was_claimed(
    postgres_database: Database,
) -> None:
    """So that it counts once, also where the first one wrote it all the same, on a disk that nobody sees."""
    first = adjustment("adj_1")
    claim(postgres_database, [first])
    grow_old(postgres_database)
    assert adjustments.claimed(postgres_database, adjustment("adj_1", at=7)) == first
    with pytest.raises(AdjustmentConflict):
        adjustments.claimed(postgres_database, adjustment("adj_1", cost=-6))
    made = adjustments.claimed_alike(postgres_database, [adjustment("adj_1", at=9), adjustment("adj_2", at=9)])
    assert made == [first, adjustment("adj_2", at=9)]
    assert adjustments.claimed_alike(postgres_database, [adjustment("adj_1", cost=-6)]) == []


def test_of_many_at_once_each_id_is_one_ones(postgres_database: Database) -> None:
    """In whatever order they come, nobody waits for ever."""
    records = [adjustment(f"adj_{number}") for number in range(50)]
    free: list[str] = []

    def race(number: int) -> None:
        mine = [sample(record.record_id, started_at=NOON + number) for record in records[:: -1 if number % 2 else 1]]
        free.extend(one.record.record_id for one in claim(postgres_database, mine) if one.free)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(free) == sorted(record.record_id for record in records)


def test_without_postgresql_nothing_need_be_claimed() -> None:
    assert claim(None, [adjustment("adj_1")]) == [Claim(adjustment("adj_1"), free=True)]
    assert adjustments.claimed(None, adjustment("adj_1")) == adjustment("adj_1")
