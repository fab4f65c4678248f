"""PostgreSQL away, in every way that it can be: known keys are served, others refused soon, and it heals by itself."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest
from sqlalchemy import select

from proxy.config.schema import Storage
from proxy.errors import ProxyRefused, Reason
from proxy.store import postgres as store
from proxy.store.database import Database, StoreError, open_database, upgrade
from proxy.store.tables import revision
from proxy.tenants import keys, projects
from proxy.tenants.key_format import mint
from proxy.tenants.keyring import LONGEST_LOOK_UP_S, LONGEST_READ_S, TRUSTED_WITHOUT_DATABASE_S, Keyring
from tests.postgres_servers import SUPERUSER, PostgresDatabase, PostgresServer, running_pgbouncer
from tests.tenants.ring import Clock, refusal, watching

pytestmark = pytest.mark.anyio

PATIENCE_S = 30.0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for in vain costs the test's time."""
    monkeypatch.setattr(store, "CONNECT_S", 2)
    monkeypatch.setattr(store, "PING_S", 0.5)
    monkeypatch.setattr(store, "GRACE_S", 0.5)


@pytest.fixture
def away(own_postgres: PostgresServer) -> PostgresDatabase:
    """A database at HEAD, with a project, in a server that the test may stop."""
    made = own_postgres.database()
    upgrade(made.storage())
    projects.create(open_database(made.storage()), "alice", 1, actor="test")
    return made


@asynccontextmanager
async def following(database: Database) -> AsyncIterator[tuple[Keyring, Clock, str]]:
    """A keyring that knows a key."""
    _, secret = keys.create(database, "alice", "n", 1, secrets.randbelow, actor="test")
    clock = Clock()
    keyring = Keyring(database, now=lambda: clock.now, monotonic=lambda: clock.time, sleep=clock.sleep)
    try:
        async with watching(keyring, clock):
            await keyring.authenticate(secret)
            yield keyring, clock, secret
    finally:
        await keyring.close()


async def refused_soon(keyring: Keyring) -> None:
    """A key that isn't known: 503, and within what a look-up may take. The rest is for a busy machine."""
    async with asyncio.timeout(LONGEST_LOOK_UP_S + PATIENCE_S):
        error = await refusal(keyring, mint(secrets.randbelow))
    assert isinstance(error, ProxyRefused)
    assert error.reason is Reason.STORE_UNAVAILABLE


async def heals(keyring: Keyring, clock: Clock, database: Database) -> None:
    """What is made from now on is known at once, when the database answers again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, secret = await asyncio.to_thread(
                    keys.create, database, "alice", "n", 1, secrets.randbelow, actor="test"
                )
                break
            except StoreError:
                await asyncio.sleep(0.1)
        while keyring._failing_since is not None:
            await clock.tick()
    assert await keyring.authenticate(secret)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("how", ["stopped", "killed", "frozen"])
async def test_known_keys_are_served_while_it_is_away_and_others_are_refused_soon(
    how: str, own_postgres: PostgresServer, away: PostgresDatabase
) -> None:
    """Frozen, it takes connections and bytes, and says nothing: as when a disk hangs."""
    go: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "stopped": (own_postgres.stop, own_postgres.start),
        "killed": (own_postgres.kill, own_postgres.start),
        "frozen": (lambda: own_postgres.send(signal.SIGSTOP), lambda: own_postgres.send(signal.SIGCONT)),
    }
    go_away, come_back = go[how]
    database = open_database(away.storage())
    async with following(database) as (keyring, clock, secret):
        go_away()
        looked = asyncio.get_running_loop().create_task(clock.tick())
        assert keyring.known(secret)
        await refused_soon(keyring)
        await looked
        clock.time += TRUSTED_WITHOUT_DATABASE_S - 60
        await clock.tick()
        assert keyring.known(secret)
        clock.time += 120
        await clock.tick()
        assert keyring.known(secret) is None
        come_back()
        await heals(keyring, clock, database)
        assert keyring.known(secret)


async def test_behind_a_pgbouncer_too(own_postgres: PostgresServer, away: PostgresDatabase) -> None:
    """It takes connections while its server is gone, and says so, or lets wait."""
    with running_pgbouncer(own_postgres) as port:
        database = open_database(PostgresDatabase(away.name, port).storage())
        async with following(database) as (keyring, clock, secret):
            own_postgres.stop()
            await refused_soon(keyring)
            assert keyring.known(secret)
            own_postgres.start()
            await heals(keyring, clock, database)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as door:
        yield int(door.getsockname()[1])


@pytest.mark.usefixtures("hasty")
def test_who_asks_where_nobody_answers_gets_an_error_that_says_so() -> None:
    told = pytest.raises(StoreError, match=r"timeout expired; does it run where storage\.database_url says")
    with black_hole() as port, told:
        open_database(Storage(database_url=f"postgresql://a@127.0.0.1:{port}/b"))


@pytest.mark.usefixtures("hasty")
def test_a_connection_that_falls_silent_in_a_statement_is_let_go(
    own_postgres: PostgresServer, away: PostgresDatabase
) -> None:
    """No thread is held for ever, and the pool doesn't keep what is broken."""
    database = open_database(away.storage())
    with pytest.raises(StoreError, match="no answer within"), database.reading(limit_s=0.5) as connection:  # noqa: PT012
        connection.execute(select(revision.c.number)).scalar_one()
        own_postgres.send(signal.SIGSTOP)
        connection.execute(select(revision.c.number)).scalar_one()
    own_postgres.send(signal.SIGCONT)
    with database.reading() as connection:
        assert connection.execute(select(revision.c.number)).scalar_one() == 1


def test_a_statement_that_takes_too_long_is_broken_off_by_the_server(postgres_database: Database) -> None:
    told = pytest.raises(StoreError, match="statement timeout; it is overloaded, or another transaction")
    with told, postgres_database.reading(limit_s=0.05) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(30)")
    with postgres_database.reading() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == f"{store.STATEMENT_S:g}s"


def test_a_writer_that_does_nothing_lets_others_by(postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine may have stopped in the midst of it, with the row in its hands that all writers want."""
    monkeypatch.setattr(store, "IDLE_IN_WRITE_S", 1)
    upgrade(postgres.storage())
    first, second = open_database(postgres.storage()), open_database(postgres.storage())
    with pytest.raises(StoreError), first.writing() as connection:  # noqa: PT012
        projects.create(second, "a", 1, actor="test")
        connection.execute(select(revision.c.number))
    assert [each.name for each in projects.list_projects(second)] == ["a"]


def test_connections_that_the_server_has_closed_are_not_used_again(
    postgres: PostgresDatabase, at_end: ExitStack
) -> None:
    upgrade(postgres.storage())
    database = open_database(postgres.storage())
    with postgres.client(SUPERUSER) as client:
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'weighbridge'"
        row = client.execute(f"{ended} AND datname = current_database()").fetchone()
    assert row is not None
    assert row[0] >= 1
    assert projects.list_projects(database) == []


def test_all_that_a_look_may_take_is_less_than_what_the_longest_read_is_given() -> None:
    """A frozen server costs a ping, then a try to connect; a slow one a statement."""
    assert store.PING_S + store.CONNECT_S < LONGEST_READ_S
    assert store.STATEMENT_S + store.GRACE_S <= LONGEST_READ_S
