"""Events as they are kept: each once, and which are still to be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.control import event_table
from proxy.control.event_table import Event
from proxy.store.database import Database, StoreError

NOW = 1_795_262_400_000_000


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def event(number: int, once: str = "", send: bool = True) -> Event:
    at = NOW + number if send else None
    return Event(f"evt_{number}", "test", NOW + number, once or f"matter {number}", "{}", next_attempt_at=at)


def test_of_one_matter_there_is_one_event(database: Database) -> None:
    assert event_table.note(database, [event(1, "x"), event(2, "x"), event(3)]) == [event(1, "x"), event(3)]
    assert event_table.note(database, [event(4, "x"), event(5)]) == [event(5)]
    assert [found.id for found in event_table.list_events(database, limit=9)] == ["evt_5", "evt_3", "evt_1"]


def test_what_is_to_be_sent_comes_in_its_order_and_without_what_is_delivered(database: Database) -> None:
    event_table.note(database, [event(3), event(1), event(2), event(4, send=False)])
    assert [found.id for found in event_table.undelivered(database)] == ["evt_1", "evt_2", "evt_3"]
    event_table.delivered(database, event(2), NOW + 9, "204")
    assert [found.id for found in event_table.undelivered(database)] == ["evt_1", "evt_3"]
    (found,) = (found for found in event_table.list_events(database, limit=9) if found.id == "evt_2")
    assert (found.delivered_at, found.next_attempt_at, found.last_answer) == (NOW + 9, None, "204")
    assert [found.id for found in event_table.list_events(database, limit=9, undelivered_only=True)] == [
        "evt_3",
        "evt_1",
    ]


def test_one_of_two_who_saw_an_event_may_send_it(database: Database) -> None:
    event_table.note(database, [event(1)])
    (seen,) = event_table.undelivered(database)
    assert event_table.claim(database, seen, NOW + 30)
    assert not event_table.claim(database, seen, NOW + 31)
    (claimed,) = event_table.undelivered(database)
    assert (claimed.attempts, claimed.next_attempt_at) == (1, NOW + 30)


def test_a_failure_that_is_told_late_takes_no_delivery_back(database: Database) -> None:
    event_table.note(database, [event(1)])
    event_table.delivered(database, event(1), NOW, "200")
    event_table.failed(database, event(1), NOW + 5, "500")
    assert event_table.undelivered(database) == []


def test_what_waits_long_is_made_due_and_a_claim_is_left_alone(database: Database) -> None:
    event_table.note(database, [event(1), event(2), event(3, send=False)])
    event_table.failed(database, event(1), NOW + 3600, "500")
    event_table.failed(database, event(2), NOW + 20, "500")
    event_table.hasten(database, NOW, 30)
    assert [found.next_attempt_at for found in event_table.undelivered(database)] == [NOW, NOW + 20]


def test_noting_raises_no_revision(database: Database) -> None:
    """Nobody caches events: keys aren't read anew because of one."""
    before = revision(database)
    event_table.note(database, [event(1)])
    assert revision(database) == before


def revision(database: Database) -> object:
    with database.reading() as connection:
        return connection.exec_driver_sql("SELECT number FROM revision").scalar()


def test_a_database_that_has_gone_is_told(sqlite_database: Database) -> None:
    Path(str(sqlite_database)).unlink()
    with pytest.raises(StoreError):
        event_table.note(sqlite_database, [event(1)])
