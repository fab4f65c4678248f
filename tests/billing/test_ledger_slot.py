"""Where a ledger file may lie, who may own it, and where that owner can be asked."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxy.billing.ledger_errors import LedgerLocked, LedgerUnusable
from proxy.billing.ledger_slot import Owner, announce, owner_of, refuse_network_file_system, take_lock

MOUNTS = r"""41 40 8:2 / /srv/team\040share/disk rw - xfs /dev/sdb1 rw
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /srv/team\040share rw,relatime shared:9 - nfs4 files:/export rw
42 22 0:42 / /mnt/keys rw - fuse.sshfs me@host: rw
"""


@pytest.mark.parametrize("folder", ["/srv/team share", "/srv/team share/data/ledger", "/mnt/keys/ledger"])
def test_a_folder_on_a_network_file_system_is_refused_with_what_to_set(folder: str) -> None:
    with pytest.raises(LedgerUnusable, match=r"network file system.*storage\.data_dir"):
        refuse_network_file_system(Path(folder), MOUNTS)


@pytest.mark.parametrize("folder", ["/var/lib/ledger", "/srv/team share/disk/ledger", "/srv/team sharing"])
def test_a_folder_on_a_local_disk_is_taken_even_inside_a_network_mount(folder: str) -> None:
    refuse_network_file_system(Path(folder), MOUNTS)


def test_the_deepest_mount_of_this_machine_is_found(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text() + f"99 1 0:99 / {tmp_path.resolve()} rw - cifs //host/share rw\n"

    refuse_network_file_system(tmp_path)
    with pytest.raises(LedgerUnusable, match="cifs"):
        refuse_network_file_system(tmp_path / "ledger", mounts)


def test_a_second_owner_is_told_which_process_holds_the_lock(tmp_path: Path) -> None:
    lock = take_lock(tmp_path)

    with pytest.raises(LedgerLocked, match=rf"held by process {os.getpid()}.*storage\.data_dir"):
        take_lock(tmp_path)
    os.close(lock)
    os.close(take_lock(tmp_path))


def test_no_file_can_be_removed_that_would_let_a_second_owner_in(tmp_path: Path) -> None:
    lock = take_lock(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()

    with pytest.raises(LedgerLocked, match="held by another process"):
        take_lock(tmp_path)
    os.close(lock)


def test_an_owner_tells_where_it_can_be_asked(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "nowhere") is None
    assert owner_of(tmp_path) is None
    lock = take_lock(tmp_path)
    mine = f"process {os.getpid()}"

    assert owner_of(tmp_path) == Owner(mine, None)
    announce(tmp_path, "http://127.0.0.1:4711")
    assert owner_of(tmp_path) == Owner(mine, "http://127.0.0.1:4711")
    os.close(lock)
    assert owner_of(tmp_path) is None


KILLED = """
import os, pathlib, signal, sys
from proxy.billing.ledger_slot import announce, take_lock
take_lock(pathlib.Path(sys.argv[1]))
announce(pathlib.Path(sys.argv[1]), "http://127.0.0.1:1")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_owner_told_is_believed_by_nobody(tmp_path: Path) -> None:
    """Neither while nobody owns the folder, nor by those who ask its next owner."""
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path]).returncode == -signal.SIGKILL
    assert "http://127.0.0.1:1" in (tmp_path / "owner").read_text()

    assert owner_of(tmp_path) is None
    lock = take_lock(tmp_path)
    assert owner_of(tmp_path) == Owner(f"process {os.getpid()}", None)
    os.close(lock)


def test_a_start_waits_for_a_command_that_has_the_lock_for_a_moment(tmp_path: Path) -> None:
    command = take_lock(tmp_path)
    release = threading.Timer(0.1, os.close, [command])
    release.start()

    os.close(take_lock(tmp_path))
    release.join()


def test_who_looks_for_a_server_keeps_nobody_else_from_looking(tmp_path: Path) -> None:
    looks = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(looks, fcntl.LOCK_SH)

    assert owner_of(tmp_path) is None
    os.close(looks)
