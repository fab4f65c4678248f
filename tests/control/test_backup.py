"""A backup is whole or isn't there: every file as it was at one moment, while its writer goes on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import reading
from proxy.control.backup import Copied, back_up
from tests.journeys.outgrown import fill

EACH = 15


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """With projects, keys, and two ledger files."""
    fill(tmp_path / "data", 2 * EACH)
    return tmp_path / "data"


@pytest.fixture
def writer(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """One that has written what stands in the write-ahead log alone, and is about to write more."""
    with closing(sqlite3.connect(data_dir / "ledger/0.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def test_a_backup_has_what_was_committed_while_the_writer_is_in_the_midst_of_more(
    data_dir: Path, tmp_path: Path, writer: sqlite3.Connection
) -> None:
    writer.execute("DELETE FROM leases")
    copied = back_up(data_dir, tmp_path / "copy")
    records = [(one.name, one.records) for one in copied]
    assert records == [("weighbridge.db", None), ("ledger/0.db", EACH), ("ledger/3.db", EACH)]
    assert [one.size for one in copied] == [(tmp_path / "copy" / one.name).stat().st_size for one in copied]
    with reading(tmp_path / "copy/ledger/0.db") as theirs, reading(data_dir / "ledger/0.db") as ours:
        for table in ("file", "usage_records", "usage_hourly"):
            query = f"SELECT * FROM {table}"
            assert theirs.execute(query).fetchall() == ours.execute(query).fetchall()
        assert theirs.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    writer.execute("COMMIT")


KILLED_IN_THE_MIDST = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=2")
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM projects")
connection.execute("CREATE TABLE half AS SELECT zeroblob(100000)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_writer_left_half_written_is_rolled_back(data_dir: Path, tmp_path: Path) -> None:
    """After a power failure, where no server has started since: a backup is what an operator makes first."""

    def projects(folder: Path) -> list[tuple[str]]:
        with closing(sqlite3.connect(folder / "weighbridge.db")) as database:
            return database.execute("SELECT name FROM projects").fetchall()

    before = projects(data_dir)
    subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDST, str(data_dir / "weighbridge.db")], check=False)
    assert (data_dir / "weighbridge.db-journal").stat().st_size
    back_up(data_dir, tmp_path / "copy")
    assert projects(tmp_path / "copy") == before != []


def test_only_its_owner_can_read_it(data_dir: Path, tmp_path: Path) -> None:
    back_up(data_dir, tmp_path / "copy")
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]}
    assert modes == {"copy": 0o700, "ledger": 0o700, "weighbridge.db": 0o600, "0.db": 0o600, "3.db": 0o600}


def test_of_two_backups_to_one_place_the_one_that_is_there_is_whole(data_dir: Path, tmp_path: Path) -> None:
    """As of a job that is still at it when its next time comes."""

    def run(_: int) -> list[Copied] | OSError:
        try:
            return back_up(data_dir, tmp_path / "copy")
        except OSError as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        ended = list(threads.map(run, range(8)))
    (made,) = [one for one in ended if not isinstance(one, OSError)]
    assert [one.name for one in made] == ["weighbridge.db", "ledger/0.db", "ledger/3.db"]
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.db")}
    assert copied == {one.name for one in made}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


def test_a_folder_of_somebody_elses_stays(data_dir: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "copy.unfinished"
    theirs.mkdir()
    (theirs / "precious").touch()
    back_up(data_dir, tmp_path / "copy")
    assert (theirs / "precious").exists()


def test_what_is_there_is_never_written_over(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError, match="never written over"):
        back_up(data_dir, tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


def test_a_backup_that_fails_leaves_nothing(data_dir: Path, tmp_path: Path) -> None:
    """Neither one that might be taken for whole, nor a part of it that the next one trips over."""
    (data_dir / "ledger/1.db").write_bytes(b"no ledger at all" * 1000)
    with pytest.raises(LedgerUnusable, match=r"1\.db"):
        back_up(data_dir, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    (data_dir / "ledger/1.db").unlink()
    *_, last = back_up(data_dir, tmp_path / "copy")
    assert last == Copied("ledger/3.db", (tmp_path / "copy/ledger/3.db").stat().st_size, EACH)
