"""Where a ledger file may lie, and the lock that makes one process its owner."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

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


def take_lock(folder: Path) -> int:
    """The descriptor of the ledger's folder, locked: the lock ends with the descriptor, thus with the process.

    The folder, and not a lock file in it: that could be removed while a server runs, and let a second one in. Raises
    LedgerLocked where another holds it.
    """
    owner = folder / "owner"
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LedgerLocked(
            f"{folder} is held by {_told_by(owner)}: a server already runs on this data_dir. "
            "Stop it, or set storage.data_dir to another folder."
        ) from None
    with suppress(OSError):  # a full disk: who owns it is only a courtesy
        owner.write_text(f"process {os.getpid()}")
    return descriptor


def _told_by(owner: Path) -> str:
    try:
        return owner.read_text() or "another process"
    except OSError:
        return "another process"
