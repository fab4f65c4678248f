"""A backup of a data folder: its files copied, each as it was at one moment, also while a server writes them."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_file import describe
from proxy.billing.ledger_reading import ledger_files, reading
from proxy.config.schema import Storage
from proxy.store.folders import sync
from proxy.store.sqlite import FILE_NAME


class Copied(NamedTuple):
    """A file of the backup. `records` are those of a ledger file; None of any other."""

    name: str
    size: int
    records: int | None


def back_up(data_dir: Path, folder: Path) -> list[Copied]:
    """Copies what is to be kept of a data_dir into a new folder, which is there when all is copied, and not before.

    The database comes first: a key that was made since stands in the ledger without harm. Raises OSError (also
    FileExistsError), LedgerUnusable; then there is nothing. Nor is there where nothing is to be kept: an empty list.
    """
    if folder.exists():
        raise FileExistsError(errno.EEXIST, "it is there already, and a backup is never written over", str(folder))
    database, book = data_dir / FILE_NAME, Storage(data_dir=data_dir).prices_file
    databases = [*([database] if database.is_file() else []), *ledger_files(data_dir)]
    if not databases and not book.is_file():
        return []
    # A folder of its own: another backup to the same place would take this one's files away.
    unfinished = Path(tempfile.mkdtemp(".unfinished", f"{folder.name}.", folder.parent))
    try:
        copied = [_copy(path, unfinished, path.relative_to(data_dir), ledger=path != database) for path in databases]
        if book.is_file():
            copied.append(_copy_book(book, unfinished / book.name))
        unfinished.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return copied


def _copy(path: Path, folder: Path, name: Path, *, ledger: bool) -> Copied:
    copy, records = folder / name, None
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    _make(copy)
    try:
        # Not mode=ro: what its last writer left half written, as power failed, must be rolled back to be read.
        uri = f"{path.absolute().as_uri()}?mode=rw"
        opened = reading(path) if ledger else closing(sqlite3.connect(uri, uri=True))
        with opened as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)  # in one step: else it began anew at each commit of the server's
            if ledger:
                records = int(target.execute("SELECT count(*) FROM usage_records").fetchone()[0])
    except sqlite3.Error as error:
        raise LedgerUnusable(f"{path} can't be copied to {folder}: {describe(error)}.") from error
    sync(copy)
    sync(copy.parent)
    return Copied(str(name), copy.stat().st_size, records)


def _copy_book(book: Path, copy: Path) -> Copied:
    """It is replaced whole, and never written to."""
    _make(copy)
    size = copy.write_bytes(book.read_bytes())
    sync(copy)
    return Copied(copy.name, size, None)


def _make(copy: Path) -> None:
    """For its owner alone, from the first byte on."""
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL, 0o600))
