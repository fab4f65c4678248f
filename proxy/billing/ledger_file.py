"""One ledger file on disk: its lock, its opening, its statements, and the ballast that is thrown off when the disk is full."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from proxy.billing import ledger_schema as schema

T = TypeVar("T")

MIB = 1024 * 1024
DISK_FULL = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE))
"""Result codes of a full disk: the file or its WAL can't grow, or the WAL's index can't."""

NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs beegfs ceph cifs coda fuse.ceph fuse.glusterfs fuse.s3fs fuse.sshfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2"
    " smb2 smb3 smbfs".split()
)
"""Where locks or shared memory can't be trusted, which SQLite's WAL needs: https://sqlite.org/wal.html, section 1."""


class LedgerError(Exception):
    """Something is wrong with the ledger file; the message says what happened and what to do."""


class LedgerLocked(LedgerError):
    """Another process owns the ledger file."""


class LedgerUnusable(LedgerError):
    """The ledger file can't be opened: newer than this program, no ledger, on a network file system, disk full."""


class LedgerFile:
    """The one connection that writes a ledger file and checkpoints it. Opened in any thread, then used in one at a time."""

    def __init__(self, path: Path, lock: int, connection: sqlite3.Connection, ballast_bytes: int) -> None:
        self.path = path
        self._lock = lock
        self._connection = connection
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._ballast = _ballast_of(path)
        self._ballast_bytes = ballast_bytes
        self._durable = True

    @classmethod
    def open(
        cls, data_dir: Path, *, busy_timeout_s: float, ballast_bytes: int, random: Callable[[int], bytes]
    ) -> LedgerFile:
        """Takes the lock of slot 0 of `data_dir` and opens its file; makes what isn't there.

        Raises LedgerLocked, LedgerUnusable.
        """
        path = data_dir.absolute() / "ledger" / "0.db"
        _make_folder(path.parent)
        refuse_network_file_system(path.parent)
        lock = _take_lock(path.with_suffix(".lock"))
        try:
            connection = with_all_room(path, lambda: _connect(path, busy_timeout_s, random(16).hex()))
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock, connection, ballast_bytes)

    def commit(
        self, leases: Sequence[Sequence[Any]], records: Sequence[Sequence[Any]], closed: Sequence[Sequence[Any]]
    ) -> None:
        """Leases opened, records and leases closed, in one transaction; fsynced where it holds a record.

        All or nothing: when it raises, nothing of it is committed, unless the error is one of fsync, whose outcome is
        unknown.
        """
        if (durable := bool(records)) is not self._durable:
            self._execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._execute("BEGIN IMMEDIATE")
        try:
            if leases:
                self._executemany(schema.INSERT_LEASE, leases)
            if records:
                self._executemany(schema.INSERT_RECORD, records)
            if closed:
                self._executemany(schema.DELETE_LEASE, closed)
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    def open_leases(self) -> list[tuple[str, bytes, bool]]:
        """Each lease that stands: its record_id, its record, and whether that record_id is in the ledger already."""
        return self._execute(
            "SELECT record_id, record, EXISTS (SELECT 1 FROM usage_records r WHERE r.record_id = l.record_id)"
            " FROM leases l ORDER BY record_id"
        ).fetchall()

    def checkpoint(self) -> None:
        """Copies the WAL into the file, as far as readers allow. Explicit, because an automatic one hides its errors."""
        self._execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

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
        """Puts the ballast on the disk, if there is room for it and a quarter more. Returns whether it stands."""
        if self.has_ballast:
            return True
        disk = os.statvfs(self.path.parent)
        if disk.f_bavail * disk.f_frsize < self._ballast_bytes * 5 // 4:
            return False
        descriptor = os.open(self._ballast, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._ballast_bytes)
        except OSError:  # room that is reserved, or under a quota: statvfs knows of neither
            self.drop_ballast()
            return False
        finally:
            os.close(descriptor)
        return True

    def close(self) -> None:
        """Moves what is in the WAL into the file, closes it and lets go of the lock."""
        try:
            self.checkpoint()
        finally:
            self._connection.close()
            os.close(self._lock)

    def abandon(self) -> None:
        """Leaves a file that failed as it is: open and locked until the process ends, so that its successor recovers it.

        Closing would checkpoint, which trusts frames that a failed fsync may have lost; recovery checks each of them.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))


def refuse_network_file_system(folder: Path, mounts: str | None = None) -> None:
    """Raises LedgerUnusable where `folder` lies on a network file system. `mounts`: text of /proc/self/mountinfo."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text()
        except FileNotFoundError:  # not Linux
            return
    resolved = folder.resolve()
    deepest, kind = Path("/"), ""
    for line in mounts.splitlines():  # "36 35 98:0 /root /mount/point options… - type source options": proc(5)
        left, _, right = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= len(deepest.parts):
            deepest, kind = point, right.split(" ")[0]
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerUnusable(
            f"{folder} is on a network file system ({kind} at {deepest}), where a ledger file isn't safe. "
            "Set storage.data_dir to a folder on a local disk."
        )


def _ballast_of(path: Path) -> Path:
    return path.with_suffix(".ballast")


def _make_folder(folder: Path) -> None:
    """Makes the folder, and fsyncs those above it, so that it survives a power loss as the records in it do."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in missing:
        descriptor = os.open(made.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _take_lock(path: Path) -> int:
    """The descriptor of the lock file, locked: the lock ends with the descriptor, thus with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise LedgerLocked(
            f"{path} is held by {f'process {owner}' if owner else 'another process'}: a server already runs on this"
            " data_dir. Stop it, or set storage.data_dir to another folder."
        ) from None
    with suppress(OSError):  # a full disk: the process id is only a courtesy
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def with_all_room(path: Path, step: Callable[[], T]) -> T:
    """What `step` of opening returns. Where it fails and the ballast stands, throws that off and tries once more.

    A full disk can't even open a WAL. Raises LedgerUnusable.
    """
    try:
        try:
            return step()
        except sqlite3.OperationalError:
            if not _ballast_of(path).exists():
                raise
            _ballast_of(path).unlink()
            return step()
    except sqlite3.Error as error:
        raise LedgerUnusable(
            f"{path} can't be opened: {describe(error)}. Look at the disk's space and health, and at the file's owner."
        ) from error


def _connect(path: Path, busy_timeout_s: float, file_id: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={64 * MIB}")
        if (version := schema.version_of(connection)) > schema.SCHEMA_VERSION:
            raise LedgerUnusable(
                f"{path} was written by a newer version of this program (its schema is {version}, this program knows up"
                f" to {schema.SCHEMA_VERSION}). Run the newer version."
            )
        schema.bring_up_to_date(connection, file_id)
    except BaseException:
        connection.close()
        raise
    return connection


def describe(error: BaseException) -> str:
    """What SQLite said, with the name of its result code where there is one."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)
