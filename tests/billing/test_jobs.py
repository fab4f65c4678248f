"""Jobs that one process does for all: however many want one, one has it; and it goes over where that one fails."""

from __future__ import annotations

import threading

import pytest

from proxy.billing.jobs import claimed
from proxy.store.database import Database
from tests.billing.shipped import rows

HOUR = 3_600_000_000


def test_of_many_who_want_a_job_at_once_one_has_it(postgres_database: Database) -> None:
    """Those who don't have it don't wait for it either: all have their answer while the one is still at it."""
    answers, answered = list[bool](), threading.Barrier(6)

    def want() -> None:
        with claimed(postgres_database, "sweep", HOUR) as mine:
            answers.append(mine)
            answered.wait(30)

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [False] * 5 + [True]


def test_a_job_is_due_again_after_its_time_and_each_for_itself(postgres_database: Database) -> None:
    def mine(name: str, every_us: int) -> bool:
        with claimed(postgres_database, name, every_us) as mine:
            return mine

    assert [mine("sweep", HOUR), mine("sweep", HOUR), mine("other", HOUR)] == [True, False, True]
    assert mine("sweep", 0)


def test_a_job_that_failed_is_due_at_once(postgres_database: Database) -> None:
    with pytest.raises(ZeroDivisionError), claimed(postgres_database, "sweep", HOUR) as mine:
        raise ZeroDivisionError
    assert mine
    assert rows(postgres_database, "SELECT name, done_at FROM jobs") == [("sweep", 0)]
    with claimed(postgres_database, "sweep", HOUR) as mine:
        assert mine
