"""weighbridge.db: made for its user alone, upgraded once, written by several processes, clear about what is wrong."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, MultipleResultsFound

from proxy.config.schema import Storage
from proxy.store import sqlite as store
from proxy.store.database import Database, StoreError, open_database, upgrade
from proxy.store.tables import HEAD, key_uses, keys, projects, revision


def number(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(select(revision.c.number)).scalar_one())


def test_the_folder_and_the_file_are_made_for_this_user_alone(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path / "a" / "data"))
    assert Path(str(database)).parent.stat().st_mode & 0o777 == 0o700
    assert Path(str(database)).stat().st_mode & 0o777 == 0o600


def test_the_journal_is_a_rollback_journal(tmp_path: Path) -> None:
    """Several processes write this file, and checkpoints of a WAL by several lose rows in older SQLite versions."""
    with open_database(Storage(data_dir=tmp_path)).reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == store.BUSY_TIMEOUT_MS


def test_upgrading_twice_does_nothing_the_second_time(tmp_path: Path) -> None:
    path, storage = tmp_path / "weighbridge.db", Storage(data_dir=tmp_path)
    assert upgrade(storage).before is None
    before = path.read_bytes()
    assert upgrade(storage) == (HEAD, HEAD, ())
    assert path.read_bytes() == before


def test_several_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    code = """
import sys
from proxy.config.schema import Storage
from proxy.store.database import upgrade
upgrade(Storage(data_dir=sys.argv[1]))
"""
    started = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / "data"], stderr=subprocess.PIPE) for _ in range(3)
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 3
    assert number(open_database(Storage(data_dir=tmp_path / "data"))) == 0


def test_a_database_newer_than_the_program_is_refused(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"newer version of Weighbridge \(its schema is 9999.*upgrade this program"):
        open_database(Storage(data_dir=tmp_path))


def test_every_write_raises_the_revision(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    with database.writing() as connection:
        connection.execute(projects.insert().values(name="a", created_at=1))
    assert number(database) == 1
    with database.writing():
        pass
    assert number(database) == 2


def test_what_nobody_caches_is_noted_without_a_new_revision(tmp_path: Path) -> None:
    """Else each last use of a key would have every worker read all keys anew."""
    database = open_database(Storage(data_dir=tmp_path))
    with database.noting() as connection:
        connection.execute(key_uses.insert().values(key_id="key_1", last_used_at=1))
    assert number(database) == 0
    with database.reading() as connection:
        assert connection.execute(select(key_uses)).all() == [("key_1", 1)]


def test_a_key_cannot_be_of_no_project(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    row = {"id": "key_1", "project": "none", "name": "", "digest": b"1", "masked": "", "created_at": 1}
    with pytest.raises(StoreError, match="FOREIGN KEY") as caught, database.writing() as connection:
        connection.execute(keys.insert().values(row))
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_what_is_read_in_one_transaction_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 10)
    database = open_database(Storage(data_dir=tmp_path))
    with database.reading() as connection:
        connection.execute(select(revision.c.number)).scalar_one()
        with pytest.raises(StoreError, match="database is locked"), database.writing():
            pass
        assert connection.execute(select(revision.c.number)).scalar_one() == 0


def test_writers_of_several_processes_wait_for_each_other(tmp_path: Path) -> None:
    code = """
import sys
from proxy.config.schema import Storage
from proxy.store.database import open_database
database = open_database(Storage(data_dir=sys.argv[1]))
for _ in range(20):
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE projects SET created_at = created_at + 1")
"""
    database = open_database(Storage(data_dir=tmp_path))
    with database.writing() as connection:
        connection.execute(projects.insert().values(name="a", created_at=0))
    started = [subprocess.Popen([sys.executable, "-c", code, tmp_path], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 3
    with database.reading() as connection:
        assert connection.execute(select(projects.c.created_at)).scalar_one() == 60
    assert number(database) == 61


def test_a_database_that_is_held_by_another_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 10)
    database = open_database(Storage(data_dir=tmp_path))
    other = sqlite3.connect(Path(str(database)), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="database is locked; another process holds it"):
        number(database)
    other.close()
    assert number(database) == 0


def test_a_database_that_has_gone_is_an_error_and_not_a_new_one(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    Path(str(database)).unlink()
    with pytest.raises(StoreError, match="unable to open database file; is it still there"):
        number(database)
    assert not Path(str(database)).exists()


def test_a_file_that_is_no_database_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "weighbridge.db").write_text("not a database, and long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="file is not a database; restore it from a backup"):
        open_database(Storage(data_dir=tmp_path))


def test_a_data_dir_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"can't be made: Not a directory; storage\.data_dir"):
        open_database(Storage(data_dir=tmp_path / "file" / "data"))


@pytest.mark.parametrize("folder", ["with space", "a%41b", "a?b#c", "ü"])
def test_a_data_dir_of_any_name_is_the_one_that_is_used(folder: str, tmp_path: Path) -> None:
    assert number(open_database(Storage(data_dir=tmp_path / folder))) == 0
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_a_database_without_its_revision_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    with sqlite3.connect(Path(str(database))) as other:
        other.execute("DELETE FROM revision")
    with pytest.raises(StoreError, match=r"`revision` is empty.*restore it from a backup, or put its one row back"):
        number(database)
    with pytest.raises(StoreError, match="`revision` is empty"), database.writing() as connection:
        connection.execute(projects.insert().values(name="a", created_at=1))
    with database.reading() as connection:
        assert connection.execute(select(projects)).all() == []


def test_whatever_sqlalchemy_raises_is_a_store_error(tmp_path: Path) -> None:
    """Who catches StoreError, as the watcher of keys does, has caught all of them."""
    database = open_database(Storage(data_dir=tmp_path))
    expected = pytest.raises(StoreError, match=r"weighbridge\.db: .*see storage\.data_dir")
    with expected as caught, database.reading() as connection:
        connection.exec_driver_sql("SELECT 1 UNION SELECT 2").scalar_one()
    assert isinstance(caught.value.__cause__, MultipleResultsFound)
