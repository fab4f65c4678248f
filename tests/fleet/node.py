"""One node of a fleet: a `serve` with its workers on a data_dir of its own, and what may happen to its processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.journeys.watching import until
from tests.postgres_servers import PASSWORD
from tests.redis_servers import free_port
from tests.stand import Weighbridge

ROOT = Path(__file__).parents[2]
PASSWORD_ENV = "FLEET_DATABASE_PASSWORD"


@dataclass
class Node(Weighbridge):
    """Its doors have the same ports whenever it is started, so that a load balancer knows it by them."""

    name: str = ""
    workers: int = 1
    host: str = "127.0.0.1"
    namespace: str = ""
    """The network namespace that it lives in, if in one of its own."""
    tree: Path = ROOT
    """Where the program is: another version of it, perhaps."""
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        doors = {"host": self.host, "port": self.port, "admin_host": self.host, "admin_port": self.admin_port}
        server = self.settings.get("server", {})
        assert isinstance(server, Mapping)
        self.settings = {**self.settings, "server": {**doors, "lame_duck_seconds": 1, **server}}

    def spawn(self) -> None:
        """Starts it in a session of its own: so that all of it can die at once."""
        workers = ("--workers", str(self.workers)) if self.workers > 1 else ()
        self.process = self.popen("proxy", "serve", *workers, start_new_session=True)

    def start(self) -> None:
        self.spawn()
        self.opened()

    def opened(self) -> None:
        """Waits until both its doors are open."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.serves(self.process.stdout.readline())

    def popen(self, module: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return super().popen(module, *arguments, cwd=self.tree, **options)

    def _command(self, module: str, *arguments: str) -> list[str]:
        there = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        return [*there, *super()._command(module, *arguments)]

    def _env(self) -> dict[str, str]:
        return {**super()._env(), "PYTHONPATH": str(self.tree), PASSWORD_ENV: PASSWORD}

    def processes(self) -> list[int]:
        """The supervisor, and all its children."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with suppress(FileNotFoundError):
            return [self.process.pid, *map(int, children.read_text().split())]
        return []

    def worker(self, slot: int) -> int | None:
        """The process that has this slot's ledger file open."""
        file = str((self.data_dir / "ledger" / f"{slot}.db").resolve())
        for process in self.processes():
            with suppress(FileNotFoundError, PermissionError):
                if any(_leads_to(found, file) for found in Path(f"/proc/{process}/fd").iterdir()):
                    return process
        return None

    def kill_worker(self, slot: int) -> int:
        """Kills the process that has this slot, and waits until it is gone; gives its id."""
        killed = self.worker(slot)
        assert killed is not None, f"nobody has slot {slot}"
        os.kill(killed, signal.SIGKILL)
        assert self.process is not None
        leader = self.process.pid
        until(lambda: killed not in _of_session(leader), "it is gone")
        return killed

    def replaced(self, slot: int, killed: int) -> None:
        """Waits until another process has taken that one's place."""
        until(lambda: self.worker(slot) not in (None, killed), f"slot {slot} has a worker again")

    def power_off(self) -> None:
        """All its processes die, as where a machine loses its power: the supervisor first, so that none is replaced."""
        assert self.process is not None
        for process in (self.process.pid, *_of_session(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        until(partial(_ended, self.process.pid), "its processes are gone")

    def close(self) -> None:
        if self.process is not None and not _ended(self.process.pid):
            self.power_off()

    def told(self, event: str, since: int = 0) -> int:
        """How many lines of its log say that, from a byte of it on."""
        return self.log_bytes()[since:].count(f'"{event}"'.encode())

    def log_bytes(self) -> bytes:
        return (self.folder / "log").read_bytes()


def _leads_to(link: Path, file: str) -> bool:
    with suppress(OSError):
        return str(link.readlink()) == file
    return False


def _of_session(leader: int) -> list[int]:
    """The processes of a session that live. One that was killed has its sockets until the last of its threads is gone,
    and its first may be gone long before."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.add(int(stat.parts[2]))
    return sorted(found)


def _ended(leader: int) -> bool:
    return not _of_session(leader)
