"""The contract of the database: SQLite, PostgreSQL, and PostgreSQL behind a pgbouncer that gives each transaction
another connection, keep the same promises to those who write at once."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from proxy.config.limits import parse_all
from proxy.control import event_table
from proxy.control.event_table import Event
from proxy.errors import CallerErred, Reason
from proxy.store.database import Database, StoreError
from proxy.store.tables import audit_events, key_uses, keys, projects, revision
from proxy.store.upsert import insert
from proxy.tenants import audit, disabled_upstreams
from proxy.tenants import keys as key_store
from proxy.tenants import projects as project_store
from proxy.tenants.keyring import Keyring
from proxy.tenants.projects import ProjectExistsError, TenancyError
from proxy.tenants.snapshot import NOTHING, read_snapshot
from proxy.tenants.uses import write_uses
from tests.tenants.ring import Clock, refusal, watching

AT_ONCE = 8


@pytest.fixture(params=["sqlite_database", "postgres_database", "pgbouncer_database"])
def database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(request.param)
    return database


def number(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(select(revision.c.number)).scalar_one())


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each gives, or raises, when all begin together."""
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return task()
        except TenancyError as error:
            return error

    with ThreadPoolExecutor(len(tasks)) as threads:
        return list(threads.map(run, tasks))


def test_every_write_raises_the_revision_and_a_note_does_not(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(projects.insert().values(name="a", created_at=1))
    with database.writing():
        pass
    with database.noting() as connection:
        connection.execute(key_uses.insert().values(key_id="key_1", last_used_at=1))
    assert number(database) == 2
    with database.reading() as connection:
        assert connection.execute(select(key_uses)).all() == [("key_1", 1)]


def test_a_write_that_fails_leaves_neither_rows_nor_a_new_revision(database: Database) -> None:
    def write_and_fail() -> None:
        with database.writing() as connection:
            connection.execute(projects.insert().values(name="a", created_at=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with database.reading() as connection:
        assert connection.execute(select(projects)).all() == []
    assert number(database) == 0


def test_a_key_cannot_be_of_no_project(database: Database) -> None:
    row = {"id": "key_1", "project": "none", "name": "", "digest": b"1", "masked": "", "created_at": 1}
    with pytest.raises(StoreError, match=r"(?i)foreign key") as caught, database.writing() as connection:
        connection.execute(keys.insert().values(row))
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_nothing_is_written_in_a_read(database: Database) -> None:
    if database.postgresql:
        with pytest.raises(StoreError, match="read-only"), database.reading() as connection:
            connection.execute(projects.insert().values(name="a", created_at=1))
    assert number(database) == 0


def test_what_is_read_in_one_transaction_is_of_one_moment(database: Database) -> None:
    """A writer waits for it (SQLite), or writes what it doesn't see (PostgreSQL)."""
    with database.reading() as reader:
        assert reader.execute(select(revision.c.number)).scalar_one() == 0
        if database.postgresql:
            project_store.create(database, "a", 1, actor="t")
        assert reader.execute(select(revision.c.number)).scalar_one() == 0
        assert reader.execute(select(projects)).all() == []


def test_a_database_without_its_revision_is_an_error_that_says_what_to_do(database: Database) -> None:
    with database.noting() as connection:
        connection.execute(revision.delete())
    with pytest.raises(StoreError, match=r"`revision` is empty.*restore it from a backup, or put its one row back"):
        number(database)
    with pytest.raises(StoreError, match="`revision` is empty"), database.writing() as connection:
        connection.execute(projects.insert().values(name="a", created_at=1))


def test_on_conflict_is_one_statement_for_each_database(database: Database) -> None:
    with database.noting() as connection:
        for at in (5, 6):
            new = insert(connection, key_uses).values(key_id="a", last_used_at=at)
            made = connection.execute(new.on_conflict_do_nothing()).rowcount
            assert made == (1 if at == 5 else 0)
        new = insert(connection, key_uses).values(key_id="a", last_used_at=9)
        columns = {"last_used_at": new.excluded.last_used_at}
        connection.execute(new.on_conflict_do_update(index_elements=[key_uses.c.key_id], set_=columns))
        assert connection.execute(select(key_uses)).all() == [("a", 9)]


def test_of_projects_made_at_once_with_one_name_there_is_one(database: Database) -> None:
    made = at_once([lambda: project_store.create(database, "a", 1, actor="t")] * AT_ONCE)
    assert sum(isinstance(each, ProjectExistsError) for each in made) == AT_ONCE - 1
    assert [each.name for each in project_store.list_projects(database)] == ["a"]
    assert number(database) == 1


def test_credits_at_once_are_all_credited(database: Database) -> None:
    """What a writer has read stands until it has written: else one would take another's away."""
    project_store.create(database, "a", 1, actor="t", limits=parse_all(["usd=1,per=total"]))
    at_once([lambda: project_store.credit(database, "a", "2.5", 2, actor="t")] * AT_ONCE)
    assert project_store.prepaid(project_store.show(database, "a")) == (1 + AT_ONCE * 2.5) * 1_000_000_000
    assert number(database) == 1 + AT_ONCE


def test_a_key_that_is_rotated_by_several_at_once_has_one_successor(database: Database) -> None:
    project_store.create(database, "a", 1, actor="t")
    old, _ = key_store.create(database, "a", "n", 1, secrets.randbelow, actor="t")
    rotated = at_once([lambda: key_store.rotate(database, old.id, 5, secrets.randbelow, actor="t", overlap=9)] * 4)
    assert sum(isinstance(each, TenancyError) for each in rotated) == 3
    assert [key.rotated_from for key in key_store.list_keys(database, "a")] == [None, old.id]


def test_audit_events_are_paged_from_the_newest_on_and_no_id_is_given_twice(database: Database) -> None:
    at_once([lambda name=name: project_store.create(database, name, 1, actor="t") for name in "abcd"])
    found = audit.list_events(database, limit=2)
    found += audit.list_events(database, limit=9, before=found[-1].id)
    assert sorted(event.project for event in found) == ["a", "b", "c", "d"]
    newest = found[0].id
    assert newest == max(event.id for event in found)
    with database.noting() as connection:
        connection.execute(audit_events.delete().where(audit_events.c.id == newest))
    project_store.create(database, "e", 1, actor="t")
    assert audit.list_events(database, limit=1)[0].id > newest


def test_an_event_that_several_find_at_once_is_noted_by_one_and_claimed_by_one(database: Database) -> None:
    def find(index: int) -> list[Event]:
        return event_table.note(database, [Event(f"evt_{index}", "test", 1, "once", "{}", next_attempt_at=1)])

    found = at_once([lambda index=index: find(index) for index in range(AT_ONCE)])
    assert sum(map(len, found)) == 1
    (event,) = event_table.undelivered(database)
    claimed = at_once([lambda until=until: event_table.claim(database, event, 100 + until) for until in range(AT_ONCE)])
    assert sum(claimed) == 1
    assert event_table.undelivered(database)[0].attempts == 1


def test_uses_of_many_keys_that_several_write_at_once_are_the_newest(database: Database) -> None:
    """Each writes them in an order of its own: none may wait for another that waits for it."""
    names = [f"key_{index}" for index in range(200)]
    orders = [names[turn:] + names[:turn] for turn in range(0, 200, 25)]
    tasks = [
        lambda at=at, order=order: write_uses(database, dict.fromkeys(order, at)) for at, order in enumerate(orders)
    ]
    assert at_once(tasks) == [None] * AT_ONCE
    with database.reading() as connection:
        assert {row.last_used_at for row in connection.execute(select(key_uses))} == {AT_ONCE - 1}


def test_a_snapshot_is_read_anew_when_the_revision_has_moved_and_only_then(database: Database) -> None:
    project_store.create(database, "a", 1, actor="t")
    key_store.create(database, "a", "n", 1, secrets.randbelow, actor="t")
    held = read_snapshot(database, NOTHING)
    assert len(held.tenants) == 1
    assert read_snapshot(database, held) is held
    disabled_upstreams.disable(database, "up", 5, actor="t")
    read = read_snapshot(database, held)
    assert (read.disabled_upstreams, read.revision) == ({"up": 5}, (held.revision or 0) + 1)


@pytest.mark.parametrize("database", ["postgres_database", "pgbouncer_database"], indirect=True)
def test_a_database_that_was_restored_and_changed_as_often_is_seen_to_be_another(database: Database) -> None:
    """As where keys that were revoked after the backup are revoked again before a node has looked."""
    project_store.create(database, "a", 1, actor="t")
    first, _ = key_store.create(database, "a", "first", 1, secrets.randbelow, actor="t")
    second, _ = key_store.create(database, "a", "second", 1, secrets.randbelow, actor="t")
    backup = number(database)
    key_store.revoke(database, first.id, 6, actor="t")
    held = read_snapshot(database, NOTHING)
    with database.noting() as connection:
        connection.execute(keys.update().values(revoked_at=None))
        connection.execute(revision.update().values(number=backup))
    key_store.revoke(database, second.id, 6, actor="t")
    assert number(database) == held.revision
    assert [tenant.key_id for tenant in read_snapshot(database, held).tenants.values()] == [first.id]


@pytest.mark.anyio
async def test_a_change_is_in_force_at_the_next_look(database: Database) -> None:
    """A keyring looks each second: what one node changes holds on all of them within two."""
    clock = Clock()
    keyring = Keyring(database, now=lambda: clock.now, monotonic=lambda: clock.time, sleep=clock.sleep)
    await asyncio.to_thread(project_store.create, database, "a", 1, actor="t")
    key, secret = key_store.create(database, "a", "n", 1, secrets.randbelow, actor="t")
    async with watching(keyring, clock):
        assert (await keyring.authenticate(secret)).key_id == key.id
        await asyncio.to_thread(key_store.revoke, database, key.id, 6, actor="t")
        await clock.tick()
        error = await refusal(keyring, secret)
        assert isinstance(error, CallerErred)
        assert error.reason is Reason.API_KEY_INVALID
    await keyring.close()
    (found,) = key_store.list_keys(database, "a")
    assert found.last_used_at == clock.now
