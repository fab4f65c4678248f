"""A data folder moved into real PostgreSQL, step by step: what is refused, what goes on, and what arrives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.periods import Days
from proxy.billing.shipping import Place, look
from proxy.config.schema import Storage
from proxy.control import store_sums
from proxy.control.store_move import Move, MoveRefused
from proxy.store import copying
from proxy.store.database import Database, StoreError, open_database, upgrade
from proxy.tenants import projects
from tests.billing.sample import NOON
from tests.billing.shipped import records_in, records_of, rows
from tests.journeys.outgrown import LEASES, fill
from tests.postgres_servers import PostgresServer

RECORDS = 2_400


def move_of(data_dir: Path, target: Database) -> Move:
    return Move(open_database(Storage(data_dir=data_dir)), data_dir, target)


def ship(move: Move, **options: object) -> None:
    move.ship(Days("UTC").name, lambda: NOON, **options)  # type: ignore[arg-type]


def equal(move: Move) -> bool:
    files = move.file_ids()
    ours, theirs = store_sums.of_files(files.values()), store_sums.of_postgres(move.target, files)
    return all(one.equal for one in store_sums.ledgers(ours, theirs) + store_sums.months(ours, theirs))  # type: ignore[operator]


def test_all_of_a_data_folder_arrives(tmp_path: Path, postgres_database: Database) -> None:
    """Also files of slots that no server has, and calls that were open when it died: they are on the bill."""
    fill(tmp_path, RECORDS)
    move, left = move_of(tmp_path, postgres_database), list[int]()
    assert move.check()
    ship(move, on_left=left.append)
    assert move.check(), "projects and keys come last"
    assert move.copy()
    assert equal(move)
    assert copying.told(postgres_database) == copying.told(move.source)
    files = [tmp_path / "ledger" / f"{slot}.db" for slot in "03"]
    assert records_in(postgres_database) == sorted(
        (row for file in files for row in records_of(file)), key=lambda r: r[2]
    )
    assert rows(postgres_database, "SELECT count(*) FROM usage_records WHERE outcome = 'unsettled'") == [(LEASES,)]
    assert (left[0], left[-1]) == (RECORDS + LEASES, 0)
    assert left == sorted(left, reverse=True)


def test_a_second_move_finds_all_there(tmp_path: Path, postgres_database: Database) -> None:
    fill(tmp_path, 20)
    for again in (False, True):
        move = move_of(tmp_path, postgres_database)
        assert move.check() is not again
        ship(move)
        assert move.copy() is not again
        assert equal(move)
    assert len(records_in(postgres_database)) == 20 + LEASES


def test_it_goes_on_when_postgresql_has_ended_in_the_midst(tmp_path: Path, own_postgres: PostgresServer) -> None:
    postgres = own_postgres.database()
    upgrade(postgres.storage())
    fill(tmp_path, RECORDS)
    move, told = move_of(tmp_path, open_database(postgres.storage())), list[int]()

    def end_it(left: int) -> None:
        told.append(left)
        if len(told) == 2:
            own_postgres.kill()

    with pytest.raises(StoreError, match="postgresql://"):
        ship(move, on_left=end_it)
    assert 0 < told[-1] < told[0]
    own_postgres.start()
    shipped = len(records_in(move.target))
    assert shipped == told[0] - told[-1]
    ship(move)
    assert move.copy()
    assert equal(move)


def test_a_target_that_another_filled_is_refused_before_anything_is_written(
    tmp_path: Path, postgres_database: Database
) -> None:
    fill(tmp_path, 20)
    projects.create(postgres_database, "acme", NOON + 1, actor="test")
    with pytest.raises(MoveRefused, match=r"can't be moved into: it isn't empty .* Else move into another one"):
        move_of(tmp_path, postgres_database).check()


def test_a_target_with_records_of_other_files_is_refused(tmp_path: Path, postgres_database: Database) -> None:
    """Sums of both sides couldn't be held against each other."""
    fill(tmp_path, 20)
    look(postgres_database, {os.urandom(16).hex(): Place("elsewhere", "0")}, [])
    with pytest.raises(MoveRefused, match="has records of 1 other ledger files"):
        move_of(tmp_path, postgres_database).check()


def test_a_target_that_servers_work_on_since_is_left_alone(tmp_path: Path, postgres_database: Database) -> None:
    fill(tmp_path, 20)
    move = move_of(tmp_path, postgres_database)
    ship(move)
    move.copy()
    look(postgres_database, {os.urandom(16).hex(): Place("a second node", "0")}, [])
    with pytest.raises(MoveRefused, match=r"was moved .* before, and servers have worked on that since"):
        move.check()


def test_a_file_that_cannot_be_read_is_refused_before_anything_is_written(
    tmp_path: Path, postgres_database: Database
) -> None:
    fill(tmp_path, 20)
    (tmp_path / "ledger" / "7.db").write_bytes(b"no ledger" * 1000)
    with pytest.raises(LedgerUnusable, match="can't be read"):
        move_of(tmp_path, postgres_database).check()


def test_a_file_that_a_server_had_just_made_when_it_died_is_no_hindrance(
    tmp_path: Path, postgres_database: Database
) -> None:
    fill(tmp_path, 20)
    (tmp_path / "ledger" / "7.db").touch()
    move = move_of(tmp_path, postgres_database)
    assert move.check()
    ship(move)
    assert equal(move)
