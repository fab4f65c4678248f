"""Opening a ledger file, one transaction, and the ballast."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.billing.ledger_errors import LedgerLocked, LedgerUnusable
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.records import id_maker, to_row
from tests.billing.conftest import SmallDisk
from tests.billing.sample import NOON, sample


def opened(data_dir: Path, ballast_bytes: int = 1 << 20) -> LedgerFile:
    return LedgerFile.open(data_dir, busy_timeout_s=0.1, ballast_bytes=ballast_bytes, random=os.urandom)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LedgerFile]:
    file = opened(tmp_path)
    yield file
    file.close()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that are opened from here on: what SQLite was told can only be asked on the same one."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*arguments: object, **options: object) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))  # type: ignore[call-overload]
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    return opened


def rows(file: LedgerFile, select: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file.path)) as connection:
        return connection.execute(select).fetchall()


def test_a_new_file_is_in_wal_mode_and_bears_a_random_id(tmp_path: Path) -> None:
    files = [opened(tmp_path / name) for name in "ab"]

    assert [rows(file, "PRAGMA journal_mode") for file in files] == [[("wal",)], [("wal",)]]
    assert rows(files[0], "SELECT file_id FROM file") != rows(files[1], "SELECT file_id FROM file")
    for file in files:
        file.close()


def test_a_new_file_and_its_wal_are_for_this_user_alone(tmp_path: Path) -> None:
    usual = os.umask(0o022)
    try:
        file = opened(tmp_path)
    finally:
        os.umask(usual)
    file.commit([], [to_row(sample("a"))], [])

    assert {path.name: path.stat().st_mode & 0o777 for path in file.path.parent.glob("0.db*")} == {
        "0.db": 0o600,
        "0.db-wal": 0o600,
        "0.db-shm": 0o600,
    }
    file.close()


def test_a_file_in_use_is_locked_until_it_is_closed(tmp_path: Path, file: LedgerFile) -> None:
    with pytest.raises(LedgerLocked):
        opened(tmp_path)
    file.commit([], [to_row(sample("a"))], [])
    assert rows(file, "SELECT record_id FROM usage_records") == [("a",)]


def test_closing_leaves_one_file_with_everything_in_it(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.commit([], [to_row(sample("a"))], [])
    file.close()

    assert not file.path.with_name("0.db-wal").exists()
    assert rows(file, "SELECT record_id FROM usage_records") == [("a",)]
    opened(tmp_path).close()


def test_a_transaction_is_taken_back_whole_when_one_row_fails(file: LedgerFile) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        file.commit([("l", 1, b"{}")], [to_row(sample("a")), to_row(sample("b", images="many"))], [])

    assert file.open_leases() == []
    assert rows(file, "SELECT * FROM usage_records") == []
    file.commit([], [to_row(sample("a"))], [])


def test_a_transaction_is_fsynced_if_it_holds_a_record(connections: list[sqlite3.Connection], file: LedgerFile) -> None:
    synchronous = []
    for leases, records in (
        ([("a", 1, b"")], []),
        ([], [to_row(sample("a"))]),
        ([("b", 1, b"")], []),
        ([("c", 1, b"")], [to_row(sample("b"))]),
    ):
        file.commit(leases, records, [])
        synchronous.append(connections[0].execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2
    assert synchronous == [normal, full, normal, full]


def test_a_lease_stands_until_its_record_is_written_or_it_is_dropped(file: LedgerFile) -> None:
    file.commit([("a", 1, b"A"), ("b", 1, b"B"), ("c", 1, b"C")], [to_row(sample("b"))], [("c",), ("unknown",)])

    assert file.open_leases() == [("a", b"A")]


def test_a_checkpoint_moves_the_wal_into_the_file(file: LedgerFile) -> None:
    file.commit([], [to_row(sample("a"))], [])
    before = file.path.stat().st_size
    file.commit([], [to_row(sample(str(number))) for number in range(100)], [])
    assert file.path.stat().st_size == before

    file.checkpoint()
    assert file.path.stat().st_size > before


def test_what_a_predecessor_left_in_the_wal_is_in_the_file_before_anything_is_written(tmp_path: Path) -> None:
    """So that no new frame stands behind one whose fsync failed."""
    file = opened(tmp_path / "a")
    file.commit([], [to_row(sample("a"))], [])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    left = (tmp_path / "b" / "ledger" / "0.db").stat().st_size
    file.close()

    successor = opened(tmp_path / "b")
    assert successor.path.stat().st_size > left
    assert rows(successor, "SELECT record_id FROM usage_records") == [("a",)]
    successor.close()


def test_a_file_that_another_process_reads_without_end_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "ledger" / "0.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM usage_records").fetchall()
        with closing(sqlite3.connect(tmp_path / "ledger" / "0.db")) as writer, writer:
            writer.execute("INSERT INTO leases VALUES ('a', 1, x'')")
        with pytest.raises(LedgerUnusable, match="locked by another process"):
            opened(tmp_path)


def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.close()
    with closing(sqlite3.connect(file.path)) as connection, connection:
        connection.execute("UPDATE file SET schema_version = 99")

    with pytest.raises(LedgerUnusable, match=r"newer version.*schema is 99.*Run the newer version"):
        opened(tmp_path)
    assert rows(file, "SELECT schema_version FROM file") == [(99,)]


def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "0.db"
    path.parent.mkdir()
    path.write_bytes(b"not a database, " * 1000)

    with pytest.raises(LedgerUnusable, match="NOTADB"):
        opened(tmp_path)
    assert path.read_bytes() == b"not a database, " * 1000
    path.unlink()
    opened(tmp_path).close()  # the lock was let go


def test_a_file_that_another_process_writes_is_refused_without_a_loss_of_ballast(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.restore_ballast()
    file.close()
    with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnusable, match="locked"):
            opened(tmp_path)
    assert file.has_ballast


def test_a_full_disk_is_opened_by_throwing_off_the_ballast(small_disk: SmallDisk) -> None:
    file = opened(small_disk.path)
    assert file.restore_ballast()
    file.close()
    small_disk.fill()

    file = opened(small_disk.path)
    assert not file.has_ballast
    file.commit([], [to_row(sample("a"))], [])
    file.close()


def test_a_nearly_full_disk_is_opened_without_the_ballast(small_disk: SmallDisk) -> None:
    """SQLite can't tell that it runs out of room in the middle of a page: the process would die of SIGBUS."""
    file = opened(small_disk.path)
    assert file.restore_ballast()
    file.close()
    last = small_disk.path / "last"
    last.write_bytes(bytes(64 * 1024))
    small_disk.fill()
    last.unlink()

    file = opened(small_disk.path)
    assert not file.has_ballast
    file.close()


def test_a_full_disk_without_ballast_is_refused_with_what_to_look_at(small_disk: SmallDisk) -> None:
    opened(small_disk.path).close()
    small_disk.fill()

    with pytest.raises(LedgerUnusable, match=r"can't be opened: .* Look at the disk's space"):
        opened(small_disk.path)


def test_the_ballast_takes_real_space_and_only_where_there_is_more_than_it_needs(small_disk: SmallDisk) -> None:
    file = opened(small_disk.path)
    small_disk.fill()
    assert not file.restore_ballast()

    assert not file.has_ballast

    small_disk.free()
    room = os.statvfs(small_disk.path)
    with (small_disk.path / "all but the ballast").open("wb") as other:
        other.write(bytes((room.f_bavail - 257) * room.f_frsize))
    assert not file.restore_ballast()

    (small_disk.path / "all but the ballast").unlink()
    before = os.statvfs(small_disk.path).f_bfree
    assert file.restore_ballast()
    assert before - os.statvfs(small_disk.path).f_bfree >= (1 << 20) // 4096
    file.drop_ballast()
    assert os.statvfs(small_disk.path).f_bfree == before
    file.close()


@pytest.mark.parametrize("code", [None, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL])
def test_the_ballast_is_written_where_room_cannot_be_reserved(
    code: int | None, tmp_path: Path, file: LedgerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has no posix_fallocate (None), and some file systems refuse it."""
    if code is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refusing(code))
    assert file.restore_ballast()
    assert file.has_ballast
    assert (tmp_path / "ledger" / "0.ballast").stat().st_blocks * 512 >= 1 << 20


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_that_is_used_up_is_a_full_disk(
    code: int, tmp_path: Path, file: LedgerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refusing(code))
    assert not file.restore_ballast()
    assert not (tmp_path / "ledger" / "0.ballast").exists()


def test_a_disk_that_fails_is_not_told_as_a_full_one(
    tmp_path: Path, file: LedgerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        file.restore_ballast()
    assert not (tmp_path / "ledger" / "0.ballast").exists()


def refusing(code: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_on_macos_an_fsync_reaches_the_disk_itself(
    tmp_path: Path, connections: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    file = opened(tmp_path)
    assert connections[0].execute("PRAGMA fullfsync").fetchone() == (1,)
    file.close()


def frames(file: LedgerFile, calls: int, *, at_once: int = 1, minute: int = 0) -> int:
    """Pages that the leases and records of so many calls write: each frame of the WAL holds one."""
    ids, begun = id_maker(lambda: NOON // 1000 + minute * 60_000, random.Random(0).randbytes), 0
    wal = file.path.with_name("0.db-wal")
    file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    while begun < calls:
        batch = [sample(ids(), request_id=ids()) for _ in range(at_once)]
        begun += at_once
        file.commit([(one.record_id, one.started_at, b"{}" * 300) for one in batch], [], [])
        file.commit([], [to_row(one) for one in batch], [])
    return wal.stat().st_size // 4120


@pytest.mark.parametrize("at_once", [1, 10])
def test_that_a_call_can_be_found_by_its_request_costs_a_quarter_more_pages_at_most(
    file: LedgerFile, at_once: int
) -> None:
    frames(file, 3_000, at_once=100)
    indexed = frames(file, 300, at_once=at_once, minute=1)
    file._connection.execute("DROP INDEX usage_records_request_id")
    assert indexed <= 1.25 * frames(file, 300, at_once=at_once, minute=2)


def test_a_call_writes_as_many_pages_into_a_long_ledger_as_into_an_empty_one(file: LedgerFile) -> None:
    empty = frames(file, 200)
    frames(file, 8_000, at_once=100, minute=1)
    assert frames(file, 200, minute=2) <= 1.25 * empty
