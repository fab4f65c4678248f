"""What a file is recognised by: whether it is still the one that was read."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int, int] | None


def stamp(path: Path) -> Stamp:
    """What is another whenever the file's content may be; None where there is no file. Links are followed."""
    try:
        seen = path.expanduser().stat()
    except OSError:
        return None
    # Not the time of modification: `cp -p` sets it back.
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_ctime_ns
