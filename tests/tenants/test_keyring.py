"""Whose key it is: from memory, from the database, and while the database is away."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from concurrent.futures import Future
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine, event

from proxy.errors import CallerErred, ProxyRefused, Reason
from proxy.store import sqlite as store
from proxy.store.database import Database
from proxy.tenants import keyring as module
from proxy.tenants import keys, projects
from proxy.tenants.key_format import mint
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy
from tests.tenants.ring import Clock, key_of, queries, refusal, watching

pytestmark = pytest.mark.anyio


async def test_a_new_key_works_at_once_and_is_known_from_then_on(database: Database, keyring: Keyring) -> None:
    tenant, secret = key_of(database)
    assert keyring.known(secret) is None
    assert await keyring.authenticate(secret) == tenant
    assert keyring.known(secret) == tenant
    other, other_secret = key_of(database, "other")
    assert await keyring.authenticate(other_secret) == other


async def test_a_known_key_needs_no_database(database: Database, keyring: Keyring) -> None:
    tenant, secret = key_of(database)
    await keyring.authenticate(secret)
    Path(str(database)).unlink()
    assert await keyring.authenticate(secret) == tenant


async def test_a_key_that_nobody_has_is_refused_in_googles_words(keyring: Keyring) -> None:
    error = await refusal(keyring, mint(secrets.randbelow))
    assert isinstance(error, CallerErred)
    assert error.reason is Reason.API_KEY_INVALID
    assert error.message == "API key not valid. Please pass a valid API key."


@pytest.mark.parametrize("key", ["", "AIzaSyExample", "wb_" + "0" * 38, "wb_é", "x" * 65_536, "wb_\udcff" + "0" * 37])
async def test_a_malformed_key_is_refused_without_asking(database: Database, keyring: Keyring, key: str) -> None:
    Path(str(database)).unlink()
    assert keyring.known(key) is None
    assert (await refusal(keyring, key)).reason is Reason.API_KEY_INVALID


async def test_a_revoked_key_is_refused_when_the_revision_is_next_looked_at(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    tenant, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        keys.revoke(database, tenant.key_id, 6, actor="test")
        await clock.tick()
        assert keyring.known(secret) is None
        assert (await refusal(keyring, secret)).reason is Reason.API_KEY_INVALID
    assert clock.time <= 2


async def test_a_disabled_project_is_refused_when_the_revision_is_next_looked_at(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    _, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        projects.disable(database, "alice", 6, actor="test")
        await clock.tick()
        error = await refusal(keyring, secret)
    assert isinstance(error, ProxyRefused)
    assert error.reason is Reason.PROJECT_DISABLED


async def test_nothing_is_forgotten_while_nothing_changes(database: Database, keyring: Keyring, clock: Clock) -> None:
    tenant, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        await clock.tick()
        await clock.tick()
        assert keyring.known(secret) == tenant


async def test_a_project_that_is_enabled_again_is_served_at_once(database: Database, keyring: Keyring) -> None:
    tenant, secret = key_of(database)
    projects.disable(database, "alice", 6, actor="test")
    assert (await refusal(keyring, secret)).reason is Reason.PROJECT_DISABLED
    projects.enable(database, "alice", 7, actor="test")
    assert await keyring.authenticate(secret) == tenant


async def test_a_restored_backup_is_in_force_like_any_change(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    backup = Path(str(database)).read_bytes()
    _, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        Path(str(database)).write_bytes(backup)
        await clock.tick()
        assert (await refusal(keyring, secret)).reason is Reason.API_KEY_INVALID


async def test_while_the_database_is_away_known_keys_are_served_and_others_are_not(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    tenant, secret = key_of(database)
    with structlog.testing.capture_logs() as logs:
        async with watching(keyring, clock):
            await keyring.authenticate(secret)
            _, unseen = key_of(database)
            away = Path(str(database)).rename(Path(str(database)).with_suffix(".away"))
            for _ in range(5):
                await clock.tick()
            assert await keyring.authenticate(secret) == tenant
            error = await refusal(keyring, unseen)
            assert isinstance(error, ProxyRefused)
            assert error.reason is Reason.STORE_UNAVAILABLE
            away.rename(Path(str(database)))
            await clock.tick()
            assert await keyring.authenticate(unseen)
    assert [entry["event"] for entry in logs] == ["database_failing", "database_back"]


async def test_a_lost_revision_does_not_end_the_watch(database: Database, keyring: Keyring, clock: Clock) -> None:
    """Else no revocation would be seen any more until a restart."""
    tenant, secret = key_of(database)
    with structlog.testing.capture_logs() as logs:
        async with watching(keyring, clock):
            await keyring.authenticate(secret)
            with sqlite3.connect(Path(str(database))) as other:
                other.execute("DELETE FROM revision")
            await clock.tick()
            assert keyring.known(secret) == tenant
            assert (await refusal(keyring, mint(secrets.randbelow))).reason is Reason.STORE_UNAVAILABLE
            with sqlite3.connect(Path(str(database))) as other:
                other.execute("INSERT INTO revision VALUES (1, 9)")
            keys.revoke(database, tenant.key_id, 6, actor="test")
            await clock.tick()
            assert (await refusal(keyring, secret)).reason is Reason.API_KEY_INVALID
    assert [entry["event"] for entry in logs] == ["database_failing", "database_back"]


async def test_a_locked_database_does_not_stop_known_keys(database: Database, keyring: Keyring, clock: Clock) -> None:
    tenant, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        other = sqlite3.connect(Path(str(database)), isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        await clock.tick()
        assert await keyring.authenticate(secret) == tenant
        assert (await refusal(keyring, mint(secrets.randbelow))).reason is Reason.STORE_UNAVAILABLE
        other.close()


async def test_known_keys_are_trusted_for_a_quarter_of_an_hour_without_the_database(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    _, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        Path(str(database)).unlink()
        await clock.tick()
        clock.time += 14 * 60
        await clock.tick()
        assert keyring.known(secret)
        clock.time += 2 * 60
        await clock.tick()
        assert (await refusal(keyring, secret)).reason is Reason.STORE_UNAVAILABLE


async def test_a_database_that_never_answers_costs_a_refusal_and_not_a_hanging_call(
    database: Database, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_READ_S", 0.02)
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 300)
    _, secret = key_of(database)
    other = sqlite3.connect(Path(str(database)), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert (await refusal(keyring, secret)).reason is Reason.STORE_UNAVAILABLE
    other.close()


async def test_a_look_up_waits_for_a_slow_database_only_so_long(
    database: Database, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which isn't away for that: the next look finds the key."""
    monkeypatch.setattr(module, "LONGEST_LOOK_UP_S", 0.02)
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 20_000)
    tenant, secret = key_of(database)
    other = sqlite3.connect(Path(str(database)), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert (await refusal(keyring, secret)).reason is Reason.STORE_UNAVAILABLE
    assert keyring._failing_since is None
    other.close()
    monkeypatch.undo()
    assert await keyring.authenticate(secret) == tenant


async def test_a_flood_of_made_up_keys_costs_a_handful_of_queries(database: Database, keyring: Keyring) -> None:
    tenant, secret = key_of(database)
    made_up = [mint(secrets.randbelow) for _ in range(2_000)]
    with queries() as asked:
        flood = asyncio.gather(*(refusal(keyring, key) for key in made_up))
        assert await keyring.authenticate(secret) == tenant
        assert {error.reason for error in await flood} == {Reason.API_KEY_INVALID}
    assert 1 <= len(asked) <= 6


async def test_who_comes_while_the_database_is_read_waits_for_the_next_read(
    database: Database, keyring: Keyring
) -> None:
    """What is being read may be older than the key."""
    with sqlite3.connect(Path(str(database))) as other:
        other.execute("PRAGMA journal_mode = WAL")  # lets a key be made in the middle of a read
    loop = asyncio.get_running_loop()
    made: list[tuple[Tenant, Future[Tenant]]] = []

    def make_another(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT revision") and not made:
            tenant, secret = key_of(database)
            made.append((tenant, asyncio.run_coroutine_threadsafe(keyring.authenticate(secret), loop)))

    event.listen(Engine, "after_cursor_execute", make_another)
    try:
        await refusal(keyring, mint(secrets.randbelow))
    finally:
        event.remove(Engine, "after_cursor_execute", make_another)
    ((tenant, answer),) = made
    assert await asyncio.wrap_future(answer) == tenant


async def test_a_change_never_makes_a_good_key_unknown(database: Database, keyring: Keyring, clock: Clock) -> None:
    """It is served from what was read before until the new is there."""
    tenant, secret = key_of(database)
    seen = []

    def look(*_: object) -> None:
        seen.append(keyring.known(secret))

    async with watching(keyring, clock):
        event.listen(Engine, "after_cursor_execute", look)
        try:
            for name in ("a", "b", "c"):
                key_of(database, name)
                await clock.tick()
        finally:
            event.remove(Engine, "after_cursor_execute", look)
        assert keyring.known(secret) == tenant
    assert len(seen) >= 6
    assert set(seen) == {tenant}


async def test_a_caller_that_leaves_takes_no_answer_from_the_others(database: Database, keyring: Keyring) -> None:
    tenant, secret = key_of(database)
    loop = asyncio.get_running_loop()
    leaving, staying = (loop.create_task(keyring.authenticate(secret)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == tenant
    assert leaving.cancelled()


async def test_an_error_that_nobody_thought_of_does_not_end_the_watch(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    tenant, secret = key_of(database)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        async with watching(keyring, clock):
            event.listen(Engine, "before_cursor_execute", fail)
            try:
                await clock.tick()
                await clock.tick()
            finally:
                event.remove(Engine, "before_cursor_execute", fail)
            keys.revoke(database, tenant.key_id, 6, actor="test")
            await clock.tick()
            assert keyring.known(secret) is None
    assert [entry["event"] for entry in logs] == ["database_failing", "database_back"]
    assert "ZeroDivisionError" in logs[0]["why"]


async def test_a_key_is_refused_from_the_moment_on_at_which_it_expires(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    key, secret = keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test", expires_at=20)
    clock.now = 19
    assert (await keyring.authenticate(secret)).key_id == key.id
    clock.now = 20
    assert keyring.known(secret) is None
    error = await refusal(keyring, secret)
    assert isinstance(error, CallerErred)
    assert (error.reason, error.message) == (
        Reason.API_KEY_INVALID,
        "API key not valid. Please pass a valid API key.",
    )


async def test_an_expired_key_costs_no_query(database: Database, keyring: Keyring, clock: Clock) -> None:
    """A forgotten job that goes on calling with it must not keep the database busy."""
    _, secret = keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test", expires_at=20)
    await keyring.authenticate(secret)
    clock.now = 20
    with queries() as asked:
        for _ in range(100):
            assert (await refusal(keyring, secret)).reason is Reason.API_KEY_INVALID
    assert asked == []


async def test_both_keys_are_served_while_a_rotation_overlaps_and_then_the_new_one(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    tenant, secret = key_of(database)
    async with watching(keyring, clock):
        await keyring.authenticate(secret)
        _, new, new_secret = keys.rotate(
            database, tenant.key_id, 10, secrets.randbelow, actor="test", overlap=1_000_000
        )
        await clock.tick()
        assert keyring.known(secret) == tenant._replace(policy=Policy(expires_at=1_000_010))
        assert keyring.known(new_secret) == Tenant("alice", new.id, "notebook")
        clock.now = 1_000_010
        assert (await refusal(keyring, secret)).reason is Reason.API_KEY_INVALID
        assert keyring.known(new_secret)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Its time passes when it is told to."""

    now = 0.0

    def time(self) -> float:
        return self.now


@pytest.mark.timeout(60)
def test_a_thousand_wrong_keys_a_second_cost_twenty_queries_a_second(database: Database) -> None:
    """For ten seconds: ten keys arrive every ten milliseconds."""
    made_up = [mint(secrets.randbelow) for _ in range(10_000)]

    async def flood() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        keyring = Keyring(database, now=lambda: 10, monotonic=loop.time)
        for start in range(0, len(made_up), 50):
            arrived = []
            for ten in range(start, start + 50, 10):
                arrived += [loop.create_task(refusal(keyring, key)) for key in made_up[ten : ten + 10]]
                for _ in range(5):  # until those that may read have begun to
                    await asyncio.sleep(0)
                loop.now += 0.01
            # No time passes while the database is read: however slow this machine is, it is the same ten seconds.
            assert {error.reason for error in await asyncio.gather(*arrived)} == {Reason.API_KEY_INVALID}
        await keyring.close()
        assert loop.now == pytest.approx(10)

    with queries() as asked, asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(flood())
    looks = [statement for statement in asked if statement.startswith("SELECT revision")]
    assert 100 <= len(looks) <= 10 * 20 + 1
    others = [statement for statement in asked if statement.startswith("SELECT") and statement not in looks]
    assert len(others) == 2, "keys and disabled upstreams, once: nothing has changed"


async def test_its_repr_shows_no_key(database: Database, keyring: Keyring) -> None:
    _, secret = key_of(database)
    await keyring.authenticate(secret)
    assert repr(keyring) == "<Keyring 1 known, revision 2>"
