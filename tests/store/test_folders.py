"""Folders of the data: whose they are. That they survive a power loss is tests/journeys/test_power_loss.py."""

from __future__ import annotations

from pathlib import Path

from proxy.store.folders import make_folder


def test_folders_that_are_missing_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "ledger")
    make_folder(tmp_path / "data" / "ledger")

    assert (tmp_path / "data" / "ledger").stat().st_mode & 0o777 == 0o700
