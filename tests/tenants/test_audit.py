"""Audit events: in the change's own transaction, newest first, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.store.database import Database, StoreError
from proxy.tenants import audit, projects
from proxy.tenants.audit import AuditEvent


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def note(database: Database, project: str, at: int, **options: Any) -> None:
    with database.writing() as connection:
        audit.note(
            connection, "project.update", project, at=at, **{"actor": "test", "before": {}, "after": {}, **options}
        )


def ids(events: list[AuditEvent]) -> list[int]:
    return [event.id for event in events]


def test_an_event_holds_what_differs_and_nothing_else(database: Database) -> None:
    note(database, "alice", 5, before={"a": 1, "b": [2]}, after={"a": 1, "b": [3], "c": None, "d": "Zoë"})
    changes = {"b": {"before": [2], "after": [3]}, "d": {"before": None, "after": "Zoë"}}
    assert audit.list_events(database, limit=9) == [AuditEvent(1, 5, "test", "project.update", "alice", None, changes)]


def test_an_event_stands_only_if_the_change_does(database: Database) -> None:
    def change_and_fail() -> None:
        with database.writing() as connection:
            audit.note(connection, "project.update", "alice", at=5, actor="test", before={}, after={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert audit.list_events(database, limit=9) == []


def test_a_change_stands_only_if_its_event_does(database: Database) -> None:
    with database.noting() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_events RENAME TO gone")
    with pytest.raises(StoreError, match="audit_events"):
        projects.create(database, "alice", 5, actor="test")
    assert projects.list_projects(database) == []


def test_events_are_paged_by_their_ids_from_the_newest_on(database: Database) -> None:
    for at in range(1, 8):
        note(database, "alice", at)
    page = audit.list_events(database, limit=3)
    assert ids(page) == [7, 6, 5]
    note(database, "alice", 8)  # meanwhile
    page = audit.list_events(database, limit=3, before=page[-1].id)
    assert ids(page) == [4, 3, 2]
    assert ids(audit.list_events(database, limit=3, before=page[-1].id)) == [1]


def test_events_are_told_of_a_project_and_from_a_time_on(database: Database) -> None:
    for at, project in enumerate(["alice", "bob", "alice", "bob"], 1):
        note(database, project, at)
    assert ids(audit.list_events(database, limit=9, project="bob")) == [4, 2]
    assert ids(audit.list_events(database, limit=9, since=3)) == [4, 3]
    assert ids(audit.list_events(database, limit=9, since=3, project="bob", before=4)) == []
    assert audit.list_events(database, limit=9, project="cid") == []


def test_an_actor_of_any_length_is_written_down(database: Database) -> None:
    note(database, "alice", 5, actor="a" * 10_000)
    assert audit.list_events(database, limit=1)[0].actor == "a" * 255
