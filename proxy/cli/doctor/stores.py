"""What is looked at of the SQLite files: that they open, are whole, and of a version that this program knows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from proxy.billing import ledger_schema
from proxy.billing.ledger_file import MIB
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.ledger_slot import Owner
from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.schema import Storage
from proxy.store.database import Database, StoreError, backend_of
from proxy.store.sqlite import FILE_NAME
from proxy.store.tables import HEAD
from proxy.tenants.disabled_upstreams import list_disabled

LOCKED_AFTER_S = 3.0
CHECKED_FOR_S = 6.0
"""A ledger of some GB takes longer. What has been seen by then is told."""
SAFE_SQLITE = (3, 51, 3)

RESTORE = "restore it from a backup; `sqlite3 FILE .recover` may get more out of it"


def check_database(data_dir: Path) -> Iterator[Finding]:
    """weighbridge.db: projects and keys."""
    path = data_dir / FILE_NAME
    if not path.exists():
        yield ok(f"{path}: not there yet; the first use makes it")
        return
    try:
        with closing(_opened(path, "mode=ro")) as database:
            yield from _database(path, database)
    except sqlite3.Error as error:
        yield _unreadable(path, error)


def _database(path: Path, database: sqlite3.Connection) -> Iterator[Finding]:
    if not _table(database, "alembic_version"):
        yield problem(f"{path}: is no database of Weighbridge", "move it away to begin anew, or set storage.data_dir")
        return
    (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone() or ("none",)
    if version > HEAD:
        yield problem(
            f"{path}: was written by a newer version of Weighbridge (schema {version}, this program's is {HEAD})",
            "upgrade this program, or restore the copy of the database made before the upgrade",
        )
        return
    if version < HEAD:
        yield ok(f"{path}: of an older version (schema {version}); the next use brings it up to date")
    if database.execute("SELECT count(*) FROM revision").fetchone() != (1,):
        yield problem(
            f"{path}: its table `revision` doesn't have its one row, so nobody would see that a key was revoked",
            "restore it from a backup, or put the row back: id 1, number 0",
        )
    yield _whole(path, database)


def projects_in(data_dir: Path) -> int:
    """How many projects weighbridge.db has; 0 where there is none, or none that can be read."""
    path = data_dir / FILE_NAME
    if not path.exists():
        return 0
    try:
        with closing(_opened(path, "mode=ro")) as database:
            return int(database.execute("SELECT count(*) FROM projects").fetchone()[0])
    except sqlite3.Error:
        return 0


def check_ledger(data_dir: Path, owner_of: Callable[[], Owner | None]) -> Iterator[Finding]:
    """The bill: ledger/0.db, and the files of further workers. `owner_of` asks for the server that runs on them."""
    owner = owner_of()
    yield _of_sqlite(sqlite3.sqlite_version_info)
    yield ok(f"a server runs on it: {owner.process}" if owner else "no server runs on it")
    try:
        files = ledger_files(data_dir)
    except OSError as error:
        yield problem(f"{error.filename}: can't be read: {error.strerror}", "run doctor as the server's user")
        return
    if not files:
        yield ok(f"{data_dir / 'ledger'}: no file is there yet; the first start makes it")
    for path in files:
        yield from _check_file(path, owner)


def _check_file(path: Path, owner: Owner | None) -> Iterator[Finding]:
    how = _way_to_read(path)
    found = _read_ledger(path, how, owner)
    if how != (now := _way_to_read(path)):  # a server has started meanwhile: what was read wasn't of one moment
        found = _read_ledger(path, now, owner)
    yield from found
    wal = path.with_name(f"{path.name}-wal")
    if how == UNSHARED and wal.exists() and wal.stat().st_size:
        yield ok(f"{wal}: records that the next start takes in; they can't be looked at before")


UNSHARED = "mode=ro&immutable=1"


def _way_to_read(path: Path) -> str:
    """Without making the files that SQLite would make beside a ledger, and without writing to those that are there."""
    return "mode=ro&readonly_shm=1" if path.with_name(f"{path.name}-shm").exists() else UNSHARED


def _read_ledger(path: Path, how: str, owner: Owner | None) -> list[Finding]:
    try:
        with closing(_opened(path, how)) as ledger:
            return list(_ledger(path, ledger, owner))
    except sqlite3.Error as error:
        return [_unreadable(path, error)]


def _ledger(path: Path, ledger: sqlite3.Connection, owner: Owner | None) -> Iterator[Finding]:
    if not _table(ledger, "usage_records"):
        yield problem(f"{path}: is no ledger", "move it away to begin anew, or set storage.data_dir")
        return
    if (version := ledger_schema.version_of(ledger)) > ledger_schema.SCHEMA_VERSION:
        yield problem(
            f"{path}: was written by a newer version of Weighbridge (schema {version}, this program knows up to "
            f"{ledger_schema.SCHEMA_VERSION})",
            "run the newer version",
        )
        return
    (leases,) = ledger.execute("SELECT count(*) FROM leases").fetchone()
    if leases and owner is None:
        yield ok(f"{path}: {leases} calls were open when the server died; the next start bills them as `unsettled`")
    yield _whole(path, ledger)


def _of_sqlite(version: tuple[int, ...]) -> Finding:
    shown = ".".join(map(str, version))
    if version >= SAFE_SQLITE:
        return ok(f"SQLite {shown}")
    return warning(
        f"SQLite {shown}: before 3.51.3, committed rows can get lost where several connections checkpoint one WAL at "
        "once. The server has one that does, so it loses none",
        "let no other program write to ledger/*.db; take copies with `.backup`, and a newer SQLite where there is one",
    )


def _whole(path: Path, opened: sqlite3.Connection) -> Finding:
    """SQLite's own check of the file's structure."""
    size = f"{path.stat().st_size / MIB:,.1f} MiB"
    give_up = time.monotonic() + CHECKED_FOR_S
    opened.set_progress_handler(lambda: time.monotonic() > give_up, 100_000)
    try:
        (found,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return ok(f"{path}: {size}; nothing wrong in what could be checked within {CHECKED_FOR_S:g} s")
    if found == "ok":
        return ok(f"{path}: {size}, whole")
    return problem(f"{path}: is damaged: {found}", RESTORE)


def _unreadable(path: Path, error: sqlite3.Error) -> Finding:
    code = getattr(error, "sqlite_errorcode", None)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return problem(f"{path}: another process holds it locked", "end the process that holds it")
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return warning(f"{path}: its last writer died in the midst of writing", "nothing: the next use rolls it back")
    if code == sqlite3.SQLITE_NOTADB:
        return problem(f"{path}: is no SQLite file", "restore it from a backup, or move it away to begin anew")
    if code == sqlite3.SQLITE_CORRUPT:
        return problem(f"{path}: is damaged: {error}", RESTORE)
    return problem(f"{path}: can't be read: {error}", "see who owns it, and the disk that it is on")


def disabled_upstreams(storage: Storage) -> frozenset[str]:
    """Those that commands took out of service, as far as the database tells: what is wrong with it is told apart."""
    if storage.database_url:
        try:
            return frozenset(list_disabled(Database(backend_of(storage))))
        except StoreError:
            return frozenset()
    try:
        with closing(_opened(storage.data_dir / FILE_NAME, "mode=ro")) as database:
            return frozenset(name for (name,) in database.execute("SELECT name FROM disabled_upstreams"))
    except sqlite3.Error:
        return frozenset()


def _opened(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=LOCKED_AFTER_S)


def _table(opened: sqlite3.Connection, name: str) -> bool:
    return opened.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone() is not None
