"""Where a ledger file may lie, the lock that makes one process its owner, and where that owner can be asked."""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from proxy.billing.ledger_errors import LedgerLocked, LedgerUnusable

NETWORK_FILE_SYSTEMS = {
    *("9p", "afs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"),
    *("fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
}
"""Where locks and shared memory don't work as SQLite's WAL needs them: https://sqlite.org/wal.html, section 1."""


def refuse_network_file_system(folder: Path, mounts: str | None = None) -> None:
    """Raises LedgerUnusable where `folder` is on a network file system. `mounts`: the text of /proc/self/mountinfo."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text()
        except FileNotFoundError:  # not Linux
            return
    resolved = folder.resolve()
    deepest, kind = Path("/"), ""
    for line in mounts.splitlines():  # "36 35 98:0 /root /mount/point options… - type source options": proc(5)
        left, _, right = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= len(deepest.parts):
            deepest, kind = point, right.split(" ")[0]
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerUnusable(
            f"{folder} is on a network file system ({kind} at {deepest}), where a ledger file isn't safe. "
            "Set storage.data_dir to a folder on a local disk."
        )


TURN_S = 1.0
"""How long to wait for the lock: a command that writes a record, or looks for a server, has it for a moment."""


class Owner(NamedTuple):
    """The process that has the lock of a ledger's folder."""

    process: str
    """Such as "process 4711"."""
    control_url: str | None
    """Base URL of its control door; None before that is open, and of a command."""


def take_lock(folder: Path) -> int:
    """The descriptor of the ledger's folder, locked: the lock ends with the descriptor, thus with the process.

    The folder, and not a lock file in it: that could be removed while a server runs, and let a second one in. Raises
    LedgerLocked where another holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    give_up = time.monotonic() + TURN_S
    while not _lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > give_up:
            os.close(descriptor)
            raise LedgerLocked(
                f"{folder} is held by {_told_by(folder).process}: a server already runs on this data_dir. "
                "Stop it, or set storage.data_dir to another folder."
            )
        time.sleep(0.02)
    with suppress(OSError):  # a full disk: who owns it is only a courtesy
        _owner(folder).write_text(f"process {os.getpid()}")
    return descriptor


def announce(folder: Path, control_url: str) -> None:
    """Tells commands where the owner of the lock, this process, can be asked. Raises OSError.

    It stands beside the name that `take_lock` wrote, so what an owner that died left there is gone with its name.
    """
    with _owner(folder).open("a") as owner:
        owner.write(f"\n{control_url}\n")


def owner_of(folder: Path) -> Owner | None:
    """Who has the lock; None where nobody has it. Asks the lock and not the file, which outlives a killed server."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        return None if _lock(descriptor, fcntl.LOCK_SH) else _told_by(folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(folder: Path) -> Path:
    return folder / "owner"


def _told_by(folder: Path) -> Owner:
    try:
        lines = _owner(folder).read_text().splitlines()
    except OSError:
        lines = []
    return Owner(lines[0] if lines and lines[0] else "another process", lines[1] if len(lines) > 1 else None)
