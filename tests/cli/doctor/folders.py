"""What a folder holds, to the byte: so that a test sees whether anything was touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def contents(folder: Path) -> dict[str, object]:
    """Every file and folder in it: content, mode, and when it was changed."""
    found: dict[str, object] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        seen = path.stat()
        found[str(path)] = (path.read_bytes() if path.is_file() else "", seen.st_mode, seen.st_mtime_ns, seen.st_ino)
    return found


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    before = contents(folder)
    yield
    assert contents(folder) == before
