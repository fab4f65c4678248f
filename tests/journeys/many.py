"""Weighbridge as many processes: who they are, and what they have told."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.journeys.watching import DEADLINE_S, until
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge

ESTABLISHED = "01"
"""As /proc/net/tcp has it: proc(5)."""


def with_workers(
    at_end: ExitStack, folder: Path, upstream: str, redis: RedisServer, workers: int = 2, **settings: dict[str, object]
) -> Weighbridge:
    """One that isn't started yet; it is killed at the end, and gone with all its processes."""
    folder.mkdir(exist_ok=True)
    sections: dict[str, dict[str, object]] = {"server": {"workers": workers}, "storage": {"redis_url": redis.url}}
    for name, section in settings.items():
        sections[name] = {**sections.get(name, {}), **section}
    stand = Weighbridge(folder, upstream, sections)
    at_end.callback(lambda: until(lambda: not lives(stand), "all of them have ended"))
    return at_end.enter_context(closing(stand))


def children(stand: Weighbridge) -> dict[str, int]:
    """Pids by what they are: "0" for worker 0, and "control". Only those that have their ledger file open."""
    assert stand.process is not None
    pid = stand.process.pid
    found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return {slot: child for child in found if (slot := _slot(child))}


def _slot(pid: int) -> str:
    """Of the ledger file that a process has open."""
    try:
        links = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()]
    except FileNotFoundError:
        return ""
    return next((link.stem for link in links if link.suffix == ".db" and link.parent.name == "ledger"), "")


def kill_all(stand: Weighbridge) -> None:
    """As a machine dies: none of them does anything any more."""
    assert stand.process is not None
    stand.process.send_signal(signal.SIGSTOP)
    for pid in children(stand).values():
        os.kill(pid, signal.SIGKILL)
    stand.close()


def lives(stand: Weighbridge) -> bool:
    """Whether any process still has its data folder's ledger locked."""
    folder = str((stand.data_dir / "ledger").resolve())
    return any(folder in _open_in(path) for path in Path("/proc").glob("[0-9]*/fd"))


def _open_in(descriptors: Path) -> set[str]:
    found = set()
    try:
        for path in descriptors.iterdir():
            found.add(str(path.readlink()))
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        pass
    return found


def logged(stand: Weighbridge, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in stand.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def reborn(stand: Weighbridge, slot: str, before: int) -> int:
    """Waits until another process has taken the place of the one with that pid."""
    found: Callable[[], int] = lambda: pid if (pid := children(stand).get(slot, 0)) != before else 0  # noqa: E731
    return until(found, f"{slot} is replaced")


def connections_of(stand: Weighbridge) -> dict[str, int]:
    """How many clients' connections each worker has."""
    port = f":{urlsplit(stand.base_url).port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(port) and line[3] == ESTABLISHED}
    return {
        slot: len(inodes & _open_in(Path(f"/proc/{pid}/fd")))
        for slot, pid in children(stand).items()
        if slot != "control"
    }


@contextmanager
def kept(stand: Weighbridge, count: int, *, at_once: bool) -> Iterator[None]:
    """So many connections that are kept, opened at once or one after the other, each in a worker's hands."""
    before = sum(connections_of(stand).values())
    where = urlsplit(stand.base_url)
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection((where.hostname, where.port), DEADLINE_S))
            if not at_once:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: sum(connections_of(stand).values()) == before + count, "all are accepted")
        yield
    until(lambda: sum(connections_of(stand).values()) == before, "all are closed")
