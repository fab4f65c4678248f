"""The database's schema: its version, whether this program can work with that, and how it is brought to HEAD."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from proxy.store.store_error import StoreError
from proxy.store.tables import HEAD, OLDEST_PROGRAM

WAIT_FOR_ANOTHER_S = 120
"""For so long an upgrade waits for one that another node is at."""
LOCK_S = 2
"""For so long it keeps others waiting where it waits for a table itself; then it lets them by, and tries again."""
TRIES = 5
STEP_S = 600.0
"""What one step may take."""
_LOCK = 0x7765696768_01
"""Of the advisory lock: any number that no other program is likely to take."""

version_table = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
schema_support = Table(
    "schema_support",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("oldest_program", String(32), nullable=False),
)
"""One row, in PostgreSQL only: the oldest HEAD whose programs still work with this schema. It lets the nodes of a
rolling upgrade go on that are still of the older version; nothing of the kind is known of a file that is newer."""


class Backend(Protocol):
    """SQLite or PostgreSQL: what the two do differently."""

    postgresql: bool
    name: str
    """As messages call it: without a password."""

    @property
    def reader(self) -> Engine: ...

    @property
    def writer(self) -> Engine: ...

    def make(self) -> None: ...

    def explain(self, error: SQLAlchemyError) -> str: ...


class Upgrade(NamedTuple):
    """What an upgrade did."""

    before: str | None
    """The version that was found; None: there was none."""
    after: str
    steps: tuple[str, ...] = ()
    """One sentence for each migration that was applied."""


@contextmanager
def explained(backend: Backend) -> Iterator[None]:
    """Whatever SQLAlchemy raises becomes a StoreError that says in a sentence what the database says in a word."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"{backend.name}: {backend.explain(error)}") from error


def upgrade(backend: Backend, sleep: Callable[[float], object] = time.sleep) -> Upgrade:
    """Makes the schema, or brings it to HEAD. Safe where several processes do it at once. Raises StoreError."""
    backend.make()
    with explained(backend):
        with backend.reader.connect() as connection:
            before = version(connection)
            if before == HEAD or usable(connection, backend, before):
                return Upgrade(before, before or HEAD)
        for attempt in range(TRIES):
            try:
                with backend.writer.execution_options(limit_s=STEP_S).begin() as connection:
                    return _migrated(connection, backend)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != "55P03" or attempt == TRIES - 1:
                    raise
                sleep(LOCK_S)
    raise AssertionError("the last try returns or raises")


def check(backend: Backend) -> None:
    """Raises StoreError where this program can't work with the schema as it is."""
    with explained(backend), backend.reader.connect() as connection:
        before = version(connection)
        if before == HEAD or usable(connection, backend, before):
            return
    what = "has no tables of Weighbridge yet" if before is None else f"has schema {before}, this program needs {HEAD}"
    raise StoreError(f"{backend.name} {what}: run `weighbridge db upgrade`, once for all nodes")


def version(connection: Connection) -> str | None:
    """None: there is no schema yet."""
    if not inspect(connection).has_table(version_table.name):
        return None
    return connection.execute(select(version_table.c.version_num)).scalar()


def usable(connection: Connection, backend: Backend, before: str | None) -> bool:
    """Whether it is a schema that came after this program, and that it can work with all the same.

    Raises StoreError where it came after, and can't be worked with.
    """
    if before is None or before in _known():
        return False
    oldest = None
    if inspect(connection).has_table(schema_support.name):
        oldest = connection.execute(select(schema_support.c.oldest_program)).scalar()
    if oldest is not None and oldest <= HEAD:
        return True
    advice = (
        "upgrade this program"
        if backend.postgresql
        else "upgrade this program, or restore the copy of the database made before the upgrade"
    )
    versions = f"its schema is {before}, this program's {HEAD}"
    raise StoreError(f"{backend.name} was written by a newer version of Weighbridge ({versions}): {advice}")


def _known() -> frozenset[str]:
    """The versions up to HEAD: they are numbers, without a gap."""
    return frozenset(f"{number:04}" for number in range(1, int(HEAD) + 1))


def _migrated(connection: Connection, backend: Backend) -> Upgrade:
    if backend.postgresql:
        connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_FOR_ANOTHER_S}s'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_S}s'"))
    before = version(connection)  # again: now nobody else can change it
    if before == HEAD or usable(connection, backend, before):
        return Upgrade(before, before or HEAD)
    steps = _migrate(connection, before)
    if backend.postgresql:
        schema_support.create(connection, checkfirst=True)
        connection.execute(schema_support.delete())
        connection.execute(insert(schema_support).values(id=1, oldest_program=OLDEST_PROGRAM))
    return Upgrade(before, HEAD, steps)


def _migrate(connection: Connection, before: str | None) -> tuple[str, ...]:
    # Imported here: only the first start after an upgrade needs it, and it takes longer to load than all else.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    steps = [f"{each.revision}: {each.doc}" for each in scripts.iterate_revisions(HEAD, before or "base")]
    command.upgrade(config, HEAD)
    return tuple(reversed(steps))
