"""weighbridge.db: opened, brought up to date, read and written. Several processes may do so at once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, NoResultFound, SQLAlchemyError
from sqlalchemy.pool import NullPool

from proxy.store.folders import make_folder
from proxy.store.tables import HEAD, revision

FILE_NAME = "weighbridge.db"
BUSY_TIMEOUT_MS = 5_000


class StoreError(Exception):
    """The database can't be read or written; the text says why, and what to do."""


class Database:
    """weighbridge.db at this program's version. Blocking: on an event loop it is used in a thread.

    Each use opens the file anew (some 200 us) and closes it: no handle crosses a fork or a thread, and a copy that was
    restored from a backup is seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _engine(path)
        # Begun as a writer: a reader that wants to become one is refused at once where another is writing.
        self._writer = self._reader.execution_options(begin="IMMEDIATE")

    def __repr__(self) -> str:
        return f"<Database {self.path}>"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a read transaction: what is read in it is of one moment.

        Raises StoreError, also where `one` or `scalar_one` finds nothing.
        """
        with _explained(self.path), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a write transaction, committed at the end, or rolled back by an exception. Raises StoreError.

        Raises the revision in the same transaction, so that no writer can forget to.
        """
        with self.noting() as connection:
            yield connection
            if not connection.execute(revision.update().values(number=revision.c.number + 1)).rowcount:
                raise NoResultFound

    @contextmanager
    def noting(self) -> Iterator[Connection]:
        """As `writing`, and raises no revision: for what nobody caches, such as when a key was last used."""
        with _explained(self.path), self._writer.begin() as connection:
            yield connection


def open_database(data_dir: Path) -> Database:
    """Opens the database in `data_dir`; makes both where they aren't there, and brings an older one up to date.

    Raises StoreError.
    """
    path = data_dir / FILE_NAME
    upgrade(path)
    return Database(path)


def upgrade(path: Path) -> str | None:
    """Brings the database to this program's version. Returns the version it had: HEAD where there was nothing to do.

    Safe where several processes do it at once. Raises StoreError, also for a database that is newer than the program.
    """
    _make_file(path)
    engine = _engine(path)
    with _explained(path):
        with engine.connect() as connection:
            before = _version(connection)
        if before == HEAD:
            return before
        with engine.execution_options(begin="IMMEDIATE").begin() as connection:
            before = _version(connection)  # again: now nobody else can change it
            if before != HEAD:
                _migrate(connection, path, before)
    return before


def _version(connection: Connection) -> str | None:
    table = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).scalar()
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if table else None


def _migrate(connection: Connection, path: Path, before: str | None) -> None:
    # Imported here: only the first start after an upgrade needs it, and it takes longer to load than all else.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None and before not in known:
        raise StoreError(
            f"{path} was written by a newer version of Weighbridge (its schema is {before}, this program's {HEAD}): "
            "upgrade this program, or restore the copy of the database made before the upgrade"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _make_file(path: Path) -> None:
    """Makes the file for this user alone, in a folder for this user alone. SQLite gives its journal the file's mode."""
    try:
        make_folder(path.parent)
        if not path.is_file():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"{path} can't be made: {error.strerror}; storage.data_dir names the folder") from None


def _engine(path: Path) -> Engine:
    """An engine without a pool. `mode=rw`: a file that has gone is an error, not a new and empty database."""

    def connect() -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        # isolation_level=None: the driver begins no transactions of its own.
        opened = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
        opened.execute("PRAGMA foreign_keys = ON")
        # A commit is the journal's removal. Less than EXTRA doesn't fsync that, and a power loss could bring back a key
        # that was revoked: https://sqlite.org/pragma.html#pragma_synchronous
        opened.execute("PRAGMA synchronous = EXTRA")
        return opened

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says in a sentence what SQLite says in a word; whatever else SQLAlchemy raises becomes a StoreError, too."""
    try:
        yield
    except NoResultFound as error:  # the revision's: of no other table is a row demanded
        raise StoreError(
            f"{path}: its table `revision` is empty, so nobody would see that a key was revoked; "
            "restore it from a backup, or put its one row back: id 1, number 0"
        ) from error
    except SQLAlchemyError as error:
        what = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        advice = {
            "database is locked": "another process holds it for longer than five seconds: try again",
            "unable to open database file": "is it still there, and may this user read and write it?",
            "attempt to write a readonly database": "this user may not write it",
            "file is not a database": "restore it from a backup, or move it away to begin anew",
        }.get(what, "see storage.data_dir, and the disk that it is on")
        raise StoreError(f"{path}: {what}; {advice}") from error
