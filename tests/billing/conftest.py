"""Fixtures of the ledger's tests: a disk small enough to fill."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of four MiB of its own. Mounting it takes root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leaves no free block."""
        with self._filler.open("ab", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=4m,uid={os.getuid()}", "tmpfs", path], check=True)
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", path], check=True)  # even where a failed test left a file open
