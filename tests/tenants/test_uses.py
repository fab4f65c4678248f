"""Last uses are written once for many, at most once a minute, and the newest stands."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import structlog
from sqlalchemy import select

from proxy.store.database import Database, StoreError
from proxy.store.tables import key_uses, revision
from proxy.tenants import keys
from proxy.tenants.keyring import Keyring
from proxy.tenants.uses import write_uses
from tests.tenants.ring import Clock, key_of, queries, watching

pytestmark = pytest.mark.anyio


def kept(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        return {row.key_id: row.last_used_at for row in connection.execute(select(key_uses))}


def test_the_newest_use_stands_in_whatever_order_uses_are_written(database: Database) -> None:
    write_uses(database, {"a": 5, "b": 5})
    write_uses(database, {"a": 4, "b": 6, "c": 1})
    write_uses(database, {"b": 6})
    assert kept(database) == {"a": 5, "b": 6, "c": 1}


def test_a_use_is_no_change_of_what_a_key_may_do(database: Database) -> None:
    """Else every worker would read all keys anew for it."""
    with database.reading() as connection:
        before = connection.execute(select(revision.c.number)).scalar_one()
    write_uses(database, {"a": 5})
    with database.reading() as connection:
        assert connection.execute(select(revision.c.number)).scalar_one() == before


def test_a_database_that_is_away_is_an_error_of_the_store(database: Database) -> None:
    Path(str(database)).unlink()
    with pytest.raises(StoreError, match="unable to open"):
        write_uses(database, {"a": 5})


def last_uses(database: Database) -> dict[str, int | None]:
    return {key.id: key.last_used_at for key in keys.list_keys(database)}


async def test_last_uses_are_written_at_most_once_a_minute_and_at_close(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    tenant, secret = key_of(database)
    other, other_secret = key_of(database, "other")
    async with watching(keyring, clock):
        assert last_uses(database) == {tenant.key_id: None, other.key_id: None}
        await keyring.authenticate(secret)
        await clock.tick()
        assert last_uses(database)[tenant.key_id] == 10

        with queries() as asked:
            for clock.now in (20, 30, 40, 50, 60, 68):
                clock.time += 8
                await keyring.authenticate(secret)
                await keyring.authenticate(other_secret)
                await clock.tick()
        assert [statement for statement in asked if statement.startswith("INSERT")] == []

        clock.time += 8
        with queries() as asked:
            await clock.tick()
        assert len([statement for statement in asked if statement.startswith("INSERT")]) == 1, "one batch for all"
        assert last_uses(database) == {tenant.key_id: 68, other.key_id: 68}

        clock.now = 99
        await keyring.authenticate(secret)
    await keyring.close()
    assert last_uses(database) == {tenant.key_id: 99, other.key_id: 68}


async def test_a_last_use_makes_nobody_read_all_keys_anew(database: Database, keyring: Keyring, clock: Clock) -> None:
    _, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        with queries() as asked:
            await clock.tick()
            await clock.tick()
    assert len([statement for statement in asked if statement.startswith("INSERT")]) == 1
    assert [statement for statement in asked if "FROM keys" in statement] == []


async def test_last_uses_that_cannot_be_written_are_kept_for_the_next_time(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    tenant, secret = key_of(database)
    with structlog.testing.capture_logs() as logs:
        async with watching(keyring, clock):
            await keyring.authenticate(secret)
            other = sqlite3.connect(Path(str(database)), isolation_level=None)
            other.execute("BEGIN IMMEDIATE")  # lets the database be read, and not be written
            await clock.tick()
            other.close()
            await clock.tick()
            assert last_uses(database) == {tenant.key_id: None}
            clock.time += 60
            await clock.tick()
            assert last_uses(database) == {tenant.key_id: 10}
    assert [entry["event"] for entry in logs] == ["last_uses_unwritten"]


async def test_closing_without_a_database_ends_all_the_same(database: Database, keyring: Keyring) -> None:
    _, secret = key_of(database)
    await keyring.authenticate(secret)
    Path(str(database)).unlink()
    await keyring.close()
