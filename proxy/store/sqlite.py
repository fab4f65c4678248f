"""weighbridge.db: the database where no server is set up. Several processes may use it at once."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from proxy.store.folders import make_folder
from proxy.store.store_error import StoreError

FILE_NAME = "weighbridge.db"
BUSY_TIMEOUT_MS = 5_000


class Sqlite:
    """The file in a data folder.

    Each use opens the file anew (some 200 us) and closes it: no handle crosses a fork or a thread, and a copy that was
    restored from a backup is seen.
    """

    postgresql = False

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME
        self.name = str(self._path)
        self.reader = _engine(self._path)
        # Begun as a writer: a reader that wants to become one is refused at once where another is writing.
        self.writer = self.reader.execution_options(begin="IMMEDIATE")

    def make(self) -> None:
        """Makes the file for this user alone, in a folder for this user alone. SQLite gives its journal the file's
        mode. Raises StoreError."""
        try:
            make_folder(self._path.parent)
            if not self._path.is_file():
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreError(
                f"{self._path} can't be made: {error.strerror}; storage.data_dir names the folder"
            ) from None

    def explain(self, error: SQLAlchemyError) -> str:
        """Says in a sentence what SQLite says in a word."""
        what = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        advice = {
            "database is locked": "another process holds it for longer than five seconds: try again",
            "unable to open database file": "is it still there, and may this user read and write it?",
            "attempt to write a readonly database": "this user may not write it",
            "file is not a database": "restore it from a backup, or move it away to begin anew",
        }.get(what, "see storage.data_dir, and the disk that it is on")
        return f"{what}; {advice}"


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
