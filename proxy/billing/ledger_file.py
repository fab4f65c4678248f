"""One ledger file on disk: its opening, its commits, and the ballast that is thrown off when the disk is full."""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from proxy.billing import ledger_schema as schema
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_slot import refuse_network_file_system, take_lock
from proxy.store.folders import make_folder

T = TypeVar("T")

MIB = 1024 * 1024
BALLAST_BYTES = 64 * MIB
"""What is thrown off for the records of calls in flight when the disk is full."""
DISK_FULL = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE))
"""Result codes of a full disk: the file or its WAL can't grow, or the WAL's index can't."""
OPENING_TAKES = MIB
"""Bytes of the disk, at least what opening a file takes: its WAL's index is made anew, and the file may grow."""
LOCK_WAIT_S = 2.0
"""How long one transaction waits for another process that has the file locked, once the file is open."""
NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
NO_FALLOCATE = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL))
"""What file systems that can't reserve room answer: posix_fallocate(3)."""


LAST_SEQ = 2**63 - 1


class Removable(NamedTuple):
    """Records that may go: written before that Unix microsecond, with no higher number."""

    before: int
    through: int = LAST_SEQ


class LedgerFile:
    """The one connection that writes a ledger file and checkpoints it. Used by one thread at a time."""

    def __init__(self, path: Path, lock: int | None, connection: sqlite3.Connection, ballast_bytes: int) -> None:
        self.path = path
        self._lock = lock
        self._connection = connection
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._ballast = ballast_of(path)
        self._ballast_bytes = ballast_bytes
        self._durable = True
        self._identity = path.stat()
        self.file_id: str = connection.execute("SELECT file_id FROM file").fetchone()[0]
        """Names the file for good, wherever it is moved to: random, and as old as the file."""

    @classmethod
    def open(
        cls,
        data_dir: Path,
        slot: str = "0",
        *,
        busy_timeout_s: float,
        ballast_bytes: int,
        random: Callable[[int], bytes],
        locked: bool = False,
    ) -> LedgerFile:
        """Takes the lock of the ledger of `data_dir` and opens the file of a slot; makes what isn't there.

        `locked`: it is ours already, with all slots, of which each has one owner: proxy/supervisor.py sees to that.
        `busy_timeout_s`: how long it waits for another process that has it locked; from then on, at most LOCK_WAIT_S.
        Raises LedgerLocked, LedgerUnusable.
        """
        path = data_dir.absolute() / "ledger" / f"{slot}.db"
        lock = None if locked else lock_ledger(data_dir)
        try:
            connection = with_all_room(path, lambda: _connect(path, busy_timeout_s, random(16).hex()))
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return cls(path, lock, connection, ballast_bytes)

    def commit(
        self, leases: Sequence[Sequence[Any]], records: Sequence[Sequence[Any]], dropped: Sequence[Sequence[Any]]
    ) -> None:
        """Leases opened, records written, which end their leases, and leases dropped, in one transaction.

        Fsynced where it holds a record. All or nothing: when it raises, nothing of it is committed, unless the error is
        one of fsync, whose outcome is unknown.
        """
        with self._transaction(durable=bool(records)):
            if leases:
                self._executemany(schema.INSERT_LEASE, leases)
            if records:
                self._executemany(schema.INSERT_RECORD, records)
                self._executemany(schema.DELETE_LEASE, [(row[0],) for row in records])
            if dropped:
                self._executemany(schema.DELETE_LEASE, dropped)

    def remove(self, before: int, most: int, through: int = LAST_SEQ) -> int:
        """Removes the oldest records, as far as they were written before that Unix microsecond; returns how many.

        None beyond the number `through`, and at most `most`, so that a call waits for little. Hourly sums stay. Not
        fsynced: what a power loss brings back is removed again. A record of a later time, whatever clock wrote it,
        keeps all that were written behind it.
        """
        oldest = self._execute(schema.OLDEST, (most,)).fetchall()
        old = list(takewhile(lambda row: row[2] < before and row[0] <= through, oldest))
        if old:
            removed = {"through": old[-1][0], "before": max(started_at for _, started_at, _ in old) + 1}
            with self._transaction(durable=False):
                for statement in schema.REMOVE_THROUGH:
                    self._execute(statement, removed)
        return len(old)

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        if durable is not self._durable:
            self._execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    def open_leases(self) -> list[tuple[str, bytes]]:
        """Each lease that stands: its record_id and its record."""
        return self._execute("SELECT record_id, record FROM leases ORDER BY record_id").fetchall()

    def locked(self) -> bool:
        """Whether another process has it locked, and doesn't let go of it soon."""
        try:
            self._execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            return True
        self._execute("ROLLBACK")
        return False

    def checkpoint(self) -> None:
        """Copies the WAL into the file, as far as readers allow. By hand, because an automatic one hides its errors."""
        self._execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def in_place(self) -> bool:
        """Whether its path still leads to it. A file that was removed takes writes as before, and nobody sees them."""
        try:
            return os.path.samestat(self.path.stat(), self._identity)
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def has_ballast(self) -> bool:
        """Whether the whole ballast stands on the disk."""
        try:
            return self._ballast.stat().st_size >= self._ballast_bytes
        except FileNotFoundError:
            return False

    def drop_ballast(self) -> None:
        """Gives the ballast's space back to the disk."""
        self._ballast.unlink(missing_ok=True)

    def restore_ballast(self) -> bool:
        """Puts the ballast on the disk, if there is room for it and a quarter more. Returns whether it stands.

        Raises OSError where the disk has room and won't take it all the same.
        """
        if self.has_ballast:
            return True
        if _room(self.path) < self._ballast_bytes * 5 // 4:
            return False
        try:
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                _take_room(descriptor, self._ballast_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:  # room that is reserved, or under a quota: statvfs knows of neither
            self.drop_ballast()
            if error.errno not in NO_ROOM:
                raise
            return False
        return True

    def close(self) -> None:
        """Moves what is in the WAL into the file, closes it and lets go of the lock."""
        try:
            self.checkpoint()
        finally:
            self._connection.close()
            if self._lock is not None:
                os.close(self._lock)

    def abandon(self) -> None:
        """Leaves a file that failed as it is, open and locked until the process ends: its successor recovers it.

        Closing would checkpoint, which trusts frames that a failed fsync may have lost; recovery checks each of them.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))


def lock_ledger(data_dir: Path) -> int:
    """The descriptor of the folder of ledger files, locked, with all slots. Raises LedgerLocked, LedgerUnusable."""
    folder = data_dir.absolute() / "ledger"
    make_folder(folder.parent)
    make_folder(folder)
    refuse_network_file_system(folder)
    return take_lock(folder)


def make_ledger_file(data_dir: Path, slot: str) -> None:
    """Makes the file of a slot, tables and all, where it isn't there; the lock is ours. Raises LedgerUnusable."""
    LedgerFile.open(
        data_dir, slot, busy_timeout_s=LOCK_WAIT_S, ballast_bytes=BALLAST_BYTES, random=os.urandom, locked=True
    ).close()


def _take_room(descriptor: int, size: int) -> None:
    """Makes an empty file take `size` bytes of its disk: at one go where that is to be had, else by writing them."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        try:
            return os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in NO_FALLOCATE:
                raise
    written = 0
    while written < size:  # random bytes: zeros take no room where the file system compresses
        written += os.pwrite(descriptor, os.urandom(min(MIB, size - written)), written)


def _room(path: Path) -> int:
    """Bytes that the disk of a file has left for this user."""
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


def ballast_of(path: Path) -> Path:
    """Where the ballast of a ledger file stands."""
    return path.with_suffix(".ballast")


def with_all_room(path: Path, step: Callable[[], T]) -> T:
    """What `step` of opening returns. Throws off the ballast where the disk is full: it can't even open a WAL then.

    Also before it is quite full: where blocks are smaller than pages (as ext4 has them below 512 MiB), SQLite takes
    one block of each page of the WAL's index, maps it, and dies of SIGBUS where there is no room for the others.
    Where opening fails, as under a quota, the ballast goes, too, and it is tried once more. Raises LedgerUnusable.
    """
    ballast = ballast_of(path)
    if _room(path) < OPENING_TAKES:
        ballast.unlink(missing_ok=True)
    try:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if is_locked(error) or not ballast.exists():
                raise
            ballast.unlink()
            return step()
    except sqlite3.Error as error:
        raise LedgerUnusable(
            f"{path} can't be opened: {describe(error)}. Look at the disk's space and health, and at the file's owner."
        ) from error


def _connect(path: Path, busy_timeout_s: float, file_id: str) -> sqlite3.Connection:
    _make_private(path)
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise LedgerUnusable(f"{path} is on a file system without shared memory, which SQLite's WAL needs.")
        connection.execute("PRAGMA synchronous=FULL")
        if sys.platform == "darwin":  # where fsync leaves what was written in the drive's cache: fsync(2)
            connection.execute("PRAGMA fullfsync=1")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={64 * MIB}")
        schema.refuse_newer(connection, path)
        _empty_wal(connection, path)
        schema.bring_up_to_date(connection, file_id)
        connection.execute(f"PRAGMA busy_timeout={int(min(busy_timeout_s, LOCK_WAIT_S) * 1000)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    """Makes the file for this user alone, where it isn't there. SQLite gives the WAL its mode."""
    if not path.exists():
        with suppress(OSError):  # SQLite meets the same, and tells it
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _empty_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Moves all of a predecessor's WAL into the file, before anything is written behind it.

    If its last fsync failed, the kernel shows frames that the disk may never get: it takes them for written. A power
    loss would take them away, and with them every later one, since checksums run through them all. Raises
    LedgerUnusable.
    """
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise LedgerUnusable(f"{path} is locked by another process, in a transaction that doesn't end. End that one.")


def is_locked(error: BaseException) -> bool:
    """Whether it says that another process has the file locked: nothing was written, and nothing is wrong with it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY  # the rest says in which step


def describe(error: BaseException) -> str:
    """What SQLite said, with the name of its result code where there is one."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)
