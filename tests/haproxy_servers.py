"""A real haproxy for tests, before servers on this machine: it asks each whether it is ready."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.redis_servers import free_port

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
DEADLINE_S = 30

CONFIGURATION = """
global
  stats socket ipv4@127.0.0.1:{control} level admin
  maxconn 4000
defaults
  mode http
  timeout connect 10s
  timeout client 120s
  timeout server 120s
  timeout check 5s
  {retries}
frontend clients
  bind 127.0.0.1:{port}
  default_backend servers
backend servers
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server check inter 100ms fall 1 rise 1
{servers}
"""
ONCE = "retries 0\n  retry-on none\n  no option redispatch\n  http-reuse always"
"""Who can't be called because a server isn't there is told so."""
ELSEWHERE = "retries 3\n  option redispatch 1\n  http-reuse never"
"""Where nobody listens at a server's port, another server is tried; no call is sent to a process that has just died."""


@dataclass(frozen=True)
class Haproxy:
    """A running one. Servers are known by the names that they were given."""

    port: int
    control: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, command: str) -> str:
        """What it answers to a command."""
        with socket.create_connection(("127.0.0.1", self.control), DEADLINE_S) as control:
            control.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: control.recv(1 << 16), b"")).decode()

    def servers(self) -> dict[str, dict[str, str]]:
        """Its statistics of each server: `status`, `econ`, `eresp`, `wretr`, `wredis` … (management guide, 9.1)."""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        return {row["svname"]: row for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")}

    def takes(self, server: str) -> bool:
        """Whether it sends calls there."""
        return self.servers()[server]["status"].startswith("UP")


def has_haproxy() -> bool:
    return shutil.which("haproxy", path=PATH) is not None


@contextmanager
def running_haproxy(folder: Path, servers: Mapping[str, int], retries: str = ONCE) -> Iterator[Haproxy]:
    """Before `servers`, ports of this machine by their names; stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Haproxy(free_port(), free_port())
    lines = "\n".join(f"  server {name} 127.0.0.1:{port}" for name, port in servers.items())
    ports = {"port": made.port, "control": made.control}
    (folder / "haproxy.cfg").write_text(CONFIGURATION.format(**ports, retries=retries, servers=lines))
    program = shutil.which("haproxy", path=PATH)
    assert program is not None
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([program, "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + DEADLINE_S
        while not _answers(made):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.02)
        yield made
    finally:
        process.kill()
        process.wait(10)


def _answers(made: Haproxy) -> bool:
    try:
        return bool(made.servers())
    except OSError:
        return False
