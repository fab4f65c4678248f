"""Folders and files of the data: whose they are. That they survive a power loss: tests/journeys/test_power_loss.py."""

from __future__ import annotations

from pathlib import Path

from proxy.store.folders import make_folder, write_file


def test_folders_that_are_missing_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "ledger")
    make_folder(tmp_path / "data" / "ledger")

    assert (tmp_path / "data" / "ledger").stat().st_mode & 0o777 == 0o700


def test_a_file_is_for_its_owner_alone_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "admin-token"
    write_file(path, "one, which is longer")
    reader = path.open()
    write_file(path, "two")

    assert (path.read_text(), reader.read()) == ("two", "one, which is longer")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    reader.close()


def test_what_a_process_left_that_died_over_it_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "admin-token.new").write_text("hal")
    write_file(tmp_path / "admin-token", "whole")

    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]
