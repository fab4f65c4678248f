"""The database and the ledger as doctor finds them, spoilt in every way; it leaves both as they were, to the byte."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from proxy.billing.ledger_file import LedgerFile
from proxy.billing.ledger_slot import Owner
from proxy.billing.records import to_row
from proxy.cli.doctor import stores
from proxy.cli.doctor.findings import Finding, Verdict
from proxy.config.schema import Storage
from proxy.store.database import open_database
from tests.billing.sample import sample
from tests.cli.doctor.folders import untouched

SERVES = Owner("process 4711", None)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return Path(str(open_database(Storage(data_dir=tmp_path))))


@contextmanager
def ledger(folder: Path) -> Iterator[LedgerFile]:
    """A ledger that its writer has open, with a thousand records of which none is in the file itself yet."""
    file = LedgerFile.open(folder, busy_timeout_s=1, ballast_bytes=0, random=os.urandom)
    file.commit([], [to_row(sample(f"r{number}")) for number in range(1000)], [])
    yield file
    file.close()


def of_database(path: Path) -> list[Finding]:
    with untouched(path.parent):
        return list(stores.check_database(path.parent))


def of_ledger(folder: Path) -> list[Finding]:
    """All but what it says of SQLite's version, and of who runs."""
    with untouched(folder):
        return list(stores.check_ledger(folder, lambda: None))[2:]


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(statement)


def spoil(path: Path) -> None:
    """Writes over the middle of it."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 8192) + content[-4096:])


def test_a_folder_without_files_is_fine_and_stays_so(tmp_path: Path) -> None:
    with untouched(tmp_path):
        found = [*stores.check_database(tmp_path), *stores.check_ledger(tmp_path, lambda: None)]
    assert Verdict.PROBLEM not in [finding.verdict for finding in found]


def test_a_database_as_it_should_be(database: Path) -> None:
    (found,) = of_database(database)
    assert (found.verdict, found.what.endswith(", whole")) == (Verdict.OK, True)


def test_an_older_database_is_fine_and_a_newer_one_is_not(database: Path) -> None:
    change(database, "UPDATE alembic_version SET version_num = '0000'")
    assert [finding.verdict for finding in of_database(database)] == [Verdict.OK, Verdict.OK]
    change(database, "UPDATE alembic_version SET version_num = '9999'")
    (found,) = of_database(database)
    assert (found.verdict, "newer version" in found.what) == (Verdict.PROBLEM, True)


def test_a_database_that_nobody_can_follow_is_told(database: Path) -> None:
    change(database, "DELETE FROM revision")
    assert "a key was revoked" in of_database(database)[0].what


@pytest.mark.parametrize("text", ["no database at all, but a text of some length " * 40, "", None])
def test_what_is_no_database_is_told(database: Path, text: str | None) -> None:
    if text is None:
        spoil(database)
    else:
        database.write_text(text)
    assert Verdict.PROBLEM in [finding.verdict for finding in of_database(database)]


def test_a_locked_database_is_told(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LOCKED_AFTER_S", 0.1)
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        (found,) = of_database(database)
    assert (found.verdict, "another process holds it locked" in found.what) == (Verdict.PROBLEM, True)


def test_a_database_whose_writer_died_is_left_for_the_next_use_to_mend(database: Path, tmp_path: Path) -> None:
    """Its journal is hot: to read it, it would have to be rolled back."""
    copy = tmp_path / "copy"
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(
            "CREATE TABLE large AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)"
            " SELECT i, hex(randomblob(50)) FROM n"
        )
        copy.mkdir()
        for path in tmp_path.glob("weighbridge.db*"):
            shutil.copy(path, copy)
    (found,) = of_database(copy / "weighbridge.db")
    assert (found.verdict, "rolls it back" in found.do) == (Verdict.WARNING, True)


def test_a_ledger_that_was_closed_and_one_that_a_server_writes_are_read(tmp_path: Path) -> None:
    with ledger(tmp_path) as file:
        # Untouched here too, where the writer is another process: test_command looks at that.
        found = list(stores.check_ledger(tmp_path, lambda: SERVES))[-1]
        assert (found.verdict, found.what.endswith(", whole")) == (Verdict.OK, True)
        file.commit([], [to_row(sample("after"))], [])
    (found,) = of_ledger(tmp_path)
    assert (found.verdict, found.what.endswith(", whole")) == (Verdict.OK, True)
    assert sorted(path.name for path in (tmp_path / "ledger").iterdir()) == ["0.db", "owner"]


def test_what_a_killed_server_left_is_read_with_its_wal(tmp_path: Path) -> None:
    """And its leases are told: the next start bills them."""
    with ledger(tmp_path) as file:
        file.commit([("lease", 1, b"{}")], [], [])
        killed = tmp_path / "killed"
        shutil.copytree(tmp_path / "ledger", killed / "ledger")
    leases, whole = of_ledger(killed)
    assert "1 calls were open" in leases.what
    assert (whole.verdict, whole.what.endswith(", whole")) == (Verdict.OK, True)
    with closing(sqlite3.connect(killed / "ledger" / "0.db")) as opened:
        assert opened.execute("SELECT count(*) FROM usage_records").fetchone() == (1000,)
    spoil(killed / "ledger" / "0.db")
    assert Verdict.PROBLEM in [finding.verdict for finding in of_ledger(killed)]


def test_a_copy_whose_wal_cannot_be_read_without_making_files_says_so(tmp_path: Path) -> None:
    with ledger(tmp_path):
        copied = tmp_path / "copied"
        shutil.copytree(tmp_path / "ledger", copied / "ledger", ignore=shutil.ignore_patterns("*-shm"))
    assert "0.db-wal: records that the next start takes in" in of_ledger(copied)[-1].what


def test_a_damaged_ledger_and_a_newer_one_are_told(tmp_path: Path) -> None:
    with ledger(tmp_path):
        pass
    path = tmp_path / "ledger" / "0.db"
    change(path, "UPDATE file SET schema_version = 99")
    assert "newer version" in of_ledger(tmp_path)[0].what
    change(path, "UPDATE file SET schema_version = 1")
    spoil(path)
    (found,) = of_ledger(tmp_path)
    assert (found.verdict, "is damaged" in found.what) == (Verdict.PROBLEM, True)


def test_an_sqlite_that_may_lose_rows_is_told() -> None:
    assert stores._of_sqlite((3, 51, 3)).verdict is Verdict.OK
    assert stores._of_sqlite((3, 51, 2)).verdict is Verdict.WARNING


def test_who_runs_is_told(tmp_path: Path) -> None:
    for owner, said in ((SERVES, "a server runs on it: process 4711"), (None, "no server runs on it")):
        assert said in [finding.what for finding in stores.check_ledger(tmp_path, lambda by=owner: by)]
