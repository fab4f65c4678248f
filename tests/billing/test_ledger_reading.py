"""Ledger files found and opened to be read, and nothing done to them by it."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from proxy.billing import reports
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import Removed, ledger_files, reading, removed
from tests.billing.sample import NOON, sample
from tests.billing.test_reports import written

pytestmark = pytest.mark.anyio


def test_files_come_by_slot_without_copies_beside_them_and_a_folder_that_is_none_is_no_empty_bill(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    others = ("0.db-wal", "0.ballast", "0.shipped", "0.backup.db", "0 (copy).db", "backup.db")
    for name in ("10.db", "2.db", "0.db", "control.db", *others):
        (folder / name).touch()
    assert [path.name for path in ledger_files(tmp_path)] == ["0.db", "2.db", "10.db", "control.db"]
    assert ledger_files(tmp_path / "nowhere") == []
    with pytest.raises(NotADirectoryError):
        ledger_files(folder / "0.db")


async def test_a_file_of_a_newer_version_is_refused_and_one_of_any_version_is_not_written(tmp_path: Path) -> None:
    [path] = await written(tmp_path, sample("a"))
    with reading(path) as connection:
        assert removed(connection) == Removed()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM leases")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE file SET schema_version = 99")
    with pytest.raises(LedgerUnusable, match="newer version"), reading(path):
        pass


async def test_reading_writes_nothing_to_the_file(tmp_path: Path) -> None:
    """A reader that closes last must not checkpoint: that is the writer's alone."""
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
    await ledger.write(sample("a"))
    [path] = ledger_files(tmp_path)
    copy = tmp_path / "copy" / "0.db"
    copy.parent.mkdir()
    for suffix in ("", "-wal"):  # as a killed server leaves them
        # cp, because closing the file in this process would let go of SQLite's own locks on it: fcntl(2), F_SETLK
        subprocess.run(["cp", f"{path}{suffix}", f"{copy}{suffix}"], check=True)
    await ledger.close()

    before = copy.read_bytes(), copy.with_name("0.db-wal").read_bytes()
    assert [record.record_id for record in reports.export([copy])] == ["a"]
    assert (copy.read_bytes(), copy.with_name("0.db-wal").read_bytes()) == before


async def test_a_file_that_is_being_made_is_read_once_it_has_its_tables(tmp_path: Path) -> None:
    """Of several workers that start at once each reads the others' files."""
    [made] = await written(tmp_path / "other", sample("a"))
    path = tmp_path / "ledger" / "0.db"
    path.parent.mkdir()
    path.touch()
    looked, go_on = threading.Event(), threading.Event()

    def slow(seconds: float) -> None:
        looked.set()
        go_on.wait(30)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr("proxy.billing.ledger_reading.time.sleep", slow)
        patch.setattr("proxy.billing.ledger_reading.MADE_WITHIN_S", 60)
        reading_it = pool.submit(lambda: reports.report([path], [])[0].calls)
        looked.wait(30)
        with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        go_on.set()
        assert reading_it.result(30) == 1


def test_a_file_that_lost_its_tables_is_no_empty_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.billing.ledger_reading.MADE_WITHIN_S", 0)
    (tmp_path / "0.db").touch()
    with pytest.raises(LedgerUnusable, match="no such table"):
        reports.report([tmp_path / "0.db"], [])
