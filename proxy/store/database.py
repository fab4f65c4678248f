"""The database of projects, keys and all that hangs on them: opened, read and written. Many processes may do so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import NoResultFound

from proxy.config import database_address
from proxy.config.schema import Storage
from proxy.store import schema
from proxy.store.schema import Backend, Upgrade
from proxy.store.sqlite import Sqlite
from proxy.store.store_error import StoreError as StoreError
from proxy.store.tables import revision


class Database:
    """SQLite or PostgreSQL at a version that this program works with; `str()` names it, without a password.

    Blocking: on an event loop it is used in a thread.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __str__(self) -> str:
        return self._backend.name

    def __repr__(self) -> str:
        return f"<Database {self}>"

    @property
    def postgresql(self) -> bool:
        """Whether it is PostgreSQL, which nodes share. Else it is SQLite, on this machine."""
        return self._backend.postgresql

    @contextmanager
    def reading(self, *, limit_s: float | None = None) -> Iterator[Connection]:
        """A connection in a read transaction: what is read in it is of one moment.

        `limit_s`: what a statement may take in PostgreSQL; by default some seconds. Raises StoreError, also where `one`
        or `scalar_one` finds nothing.
        """
        engine = self._backend.reader.execution_options(limit_s=limit_s)
        with self._explained(), engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a write transaction, committed at the end, or rolled back by an exception. Raises StoreError.

        Raises the revision in the same transaction, so that no writer can forget to; and first of all, so that writers
        wait for each other: what one has read stands until it has written.
        """
        with self.noting() as connection:
            if not connection.execute(revision.update().values(number=revision.c.number + 1)).rowcount:
                raise NoResultFound
            yield connection

    @contextmanager
    def noting(self, *, limit_s: float | None = None) -> Iterator[Connection]:
        """As `writing`, and raises no revision: for what nobody caches, such as when a key was last used.

        In PostgreSQL writers that note don't wait for each other.
        """
        engine = self._backend.writer.execution_options(limit_s=limit_s)
        with self._explained(), engine.begin() as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with schema.explained(self._backend):
            try:
                yield
            except NoResultFound as error:  # the revision's: of no other table is a row demanded
                raise StoreError(
                    f"{self}: its table `revision` is empty, so nobody would see that a key was revoked; "
                    "restore it from a backup, or put its one row back: id 1, number 0"
                ) from error


def open_database(storage: Storage) -> Database:
    """Opens the database that the configuration names. Raises StoreError.

    SQLite's is made where it isn't there, and brought up to date. PostgreSQL's must be: a command does that for all
    nodes, at a time that the operator chooses.
    """
    backend = backend_of(storage)
    if backend.postgresql:
        schema.check(backend)
    else:
        schema.upgrade(backend)
    return Database(backend)


def upgrade(storage: Storage) -> Upgrade:
    """Brings the database to this program's version. Safe where several processes do it at once.

    Raises StoreError, also for a database that is newer than the program and can't be worked with.
    """
    backend = backend_of(storage)
    try:
        return schema.upgrade(backend)
    finally:
        backend.reader.dispose()


def backend_of(storage: Storage) -> Backend:
    """What is behind `open_database`, whatever version it has. Raises StoreError."""
    if not storage.database_url:
        return Sqlite(storage.data_dir)
    from proxy.store.postgres import Postgres  # not before: loading psycopg takes a tenth of a second

    password = storage.database_password
    for name in ("database_password_env", "database_password_file"):
        if (reference := getattr(storage, name)) is not None and password is None:
            raise StoreError(f"storage.{name}: {reference} holds no password here; it is to hold PostgreSQL's")
    return Postgres(database_address.parse(storage.database_url), password.get_secret_value() if password else None)
