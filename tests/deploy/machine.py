"""A machine for a test: this one's programs, a file system and a network that nobody else sees, and systemd.

An overlay of this machine's files in namespaces of its own: what is written there is gone with it, what listens there
is reached from there alone, and its first process is this machine's own systemd, so units run as they will be run.
Takes root. The checkout is at CHECKOUT, read-only. What has to fetch something runs behind OUTSIDE.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.pages import ROOT

CHECKOUT = "/srv/weighbridge"
OUTSIDE = "nsenter --net=/run/network --"
"""Runs a command there with the network of the machine that tests run on."""
SYSTEMD = Path("/lib/systemd/systemd")
PROGRAMS = ("ip", "nsenter", "setpriv", "systemctl", "unshare")
DEADLINE_S = 60
_CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
_PASSED_ON = ("PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA")
_number = itertools.count()


def has_machines() -> bool:
    """This user may make one, and there is what it takes."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not all(map(shutil.which, PROGRAMS)):
        return False
    may = ["unshare", "--cgroup", "--ipc", "--mount", "--net", "--pid", "--uts", "--fork"]
    tried = subprocess.run([*may, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


@dataclass(frozen=True)
class Machine:
    """A running one. `init` is the process id, here, of its first process."""

    init: int
    log: Path

    def path(self, inside: str) -> Path:
        """A file of it, seen from here. What leads elsewhere by an absolute link isn't followed there."""
        return Path(f"/proc/{self.init}/root{inside}")

    def command(self, *words: str) -> list[str]:
        """What runs a command there, as root."""
        return ["nsenter", "--target", str(self.init), *_NAMESPACES, "--", *words]

    def run(self, script: str, *, env: Mapping[str, str] | None = None) -> str:
        """Runs a script of bash in its checkout, as root; what it prints. Fails where one of its commands does."""
        passed = {name: value for name, value in os.environ.items() if name.upper().startswith(_PASSED_ON)}
        clean = {
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        done = subprocess.run(
            self.command("bash", "-c", f"set -euo pipefail\ncd {CHECKOUT}\n{script}"),
            env={**clean, **passed, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S * 4,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n→ {done.returncode}\n{done.stdout}\n{self.journal()}"
        return done.stdout

    def journal(self) -> str:
        """What its units have said last."""
        told = self.command("journalctl", "--no-pager", "--lines=60", "--output=cat")
        return subprocess.run(told, capture_output=True, text=True, check=False).stdout


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Starts one, with no service but systemd's own; `folder` is where it is mounted, and gets its log."""
    place, log, cgroup = folder / "root", folder / "log", f"weighbridge-{os.getpid()}-{next(_number)}"
    place.mkdir(parents=True)
    script = [str(Path(__file__).with_suffix(".sh")), str(place), str(ROOT), cgroup]
    with log.open("ab") as out:
        started = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=private", "sh", *script],
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        made = Machine(_first_process(started, log), log)
        _await(made)
        yield made
    finally:
        _end(started)
        _forget(cgroup)


def _first_process(started: subprocess.Popen[bytes], log: Path) -> int:
    """Its id here, once it is systemd: until then the script gets things ready."""
    until = time.monotonic() + DEADLINE_S
    while True:
        assert started.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        for pid in _children(started.pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/exe").readlink().name == SYSTEMD.name:
                    return pid
        time.sleep(0.02)


def _await(made: Machine) -> None:
    until = time.monotonic() + DEADLINE_S
    ready = made.command("systemctl", "is-active", "--quiet", "ready.target")
    while subprocess.run(ready, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < until, made.log.read_text()
        time.sleep(0.05)


def _end(started: subprocess.Popen[bytes]) -> None:
    """With its first process, the kernel ends all others of it."""
    for pid in _children(started.pid):
        os.kill(pid, signal.SIGKILL)
    started.kill()
    started.wait(DEADLINE_S)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def _forget(cgroup: str) -> None:
    """Removes its cgroups, from the leaves on, when the last process in them is gone."""
    until = time.monotonic() + DEADLINE_S
    for there in (parent / cgroup for parent in _CGROUPS):
        while there.exists():
            for path, _, _ in os.walk(there, topdown=False):
                with suppress(OSError):
                    Path(path).rmdir()
            assert time.monotonic() < until, f"{there} can't be removed"
            time.sleep(0.02)
