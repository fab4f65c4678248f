"""A reader's machine: a network of its own, where all addresses that pages name are free, a shell in a fresh folder.

It is made by `unshare`, without being root: what is started there listens on 127.0.0.1:8080 as the page says, and names
such as Google's lead there, too. Doors that a test opens there are served from the test's own process.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

from starlette.types import ASGIApp

from proxy.config.limits import Limit, parse_all
from proxy.config.schema import Storage
from proxy.store.database import Database, open_database
from proxy.tenants import keys, projects
from tests.certificates import make_certificate
from tests.journeys.watching import until
from tests.pages import ROOT
from tests.servers import serving_at

GOOGLE = "generativelanguage.googleapis.com"
HOSTS = (GOOGLE, "redis.example", "db.example", "weighbridge.example")
"""Names that pages have, and that lead to the machine itself."""
SERVER = re.compile(r"(?:\w+=\S* )*weighbridge (?:serve|emulator|demo)\b|redis-server ")
"""A command that serves until it is ended: a reader has another terminal for what comes next."""
READY = re.compile(r"serves at.*\n.*\n|Serving until|is emulated at.*\n.*\n|Ready to accept")

_BOOT = """
import os, socket, subprocess, sys
to, hosts, *ports = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
doors = [socket.create_server(("127.0.0.1", int(port)), backlog=128) for port in ports]
with socket.socket(fileno=int(to)) as way:
    socket.send_fds(way, [b"."], [door.fileno() for door in doors])
os.execvp("bash", ["bash", "--noprofile", "--norc"])
"""
"""Run in the new namespaces: gives us doors that are open there, and becomes the shell."""

_FORWARD = """
import asyncio, socket, sys
door, to = map(int, sys.argv[1:])

async def pass_on(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()

async def meet(reader, writer):
    there, back = await asyncio.open_connection("127.0.0.1", to)
    await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)
    back.close()
    writer.close()

async def forward():
    await (await asyncio.start_server(meet, sock=socket.socket(fileno=door))).serve_forever()

asyncio.run(forward())
"""


@dataclass(frozen=True)
class Ran:
    """A command that has ended: its exit code, and all that it wrote, as a terminal shows it."""

    command: str
    code: int
    printed: str


@dataclass
class Machine:
    """A shell that keeps what is exported. `folder` is the reader's; `notes` is where what passes is written down."""

    folder: Path
    notes: Path
    shell: subprocess.Popen[str]
    doors: Mapping[int, socket.socket]
    at_end: ExitStack
    servers: dict[int, str] = field(default_factory=dict)
    """The process groups of those that run, each with its command."""
    stand_ins: dict[str, str] = field(default_factory=dict)
    """What a page has for a key or an id, and what it is here."""
    ran: list[Ran] = field(default_factory=list)
    _number: int = 0

    def follow(self, command: str, typed: str = "") -> Ran:
        """Runs a command of a page with the keys and ids that there are; or starts it, where it is one that serves."""
        for shown, here in self.stand_ins.items():
            command = command.replace(shown, here)
        if SERVER.match(command):
            self.stop(
                command.partition("weighbridge ")[2][:5]
            )  # on the same doors: its reader has ended the one before
            self.ran.append(self.start(command))
        else:
            self.ran.append(self.run(command, typed))
        return self.ran[-1]

    def run(self, command: str, typed: str = "") -> Ran:
        """Runs a command to its end. What is typed stands behind the question in what was printed, as on a terminal."""
        note = self._note(command)
        note.with_suffix(".in").write_text(typed)
        self._say(f". {note}.sh <{note}.in >{note}.out 2>&1; echo $? >{note}.new; mv {note}.new {note}.code")
        until(note.with_suffix(".code").exists, f"{command} ends", 120)
        code, printed = note.with_suffix(".code").read_text(), note.with_suffix(".out").read_text()
        return Ran(command, int(code), printed.replace("[y/N]: ", f"[y/N]: {typed}"))

    def start(self, command: str) -> Ran:
        """Starts a command that serves, and waits until it does."""
        note = self._note(command)
        (out := note.with_suffix(".out")).touch()
        self._say(
            f"set -m; . {note}.sh </dev/null >{note}.out 2>&1 & echo $! >{note}.new; mv {note}.new {note}.pid; set +m"
        )
        until(note.with_suffix(".pid").exists, f"{command} starts")
        group = int(note.with_suffix(".pid").read_text())
        self.servers[group] = command
        until(lambda: READY.search(out.read_text()) or not _runs(group), f"{command} serves")
        assert READY.search(out.read_text()), f"{command}\n{out.read_text()}"
        return Ran(command, 0, out.read_text())

    def stop(self, which: str = "") -> None:
        """Ctrl-C in the terminals of those servers whose command has this in it."""
        for group in [group for group, command in self.servers.items() if which in command]:
            os.killpg(group, signal.SIGINT)
            until(lambda group=group: not _runs(group), "it ends")  # type: ignore[misc]
            del self.servers[group]

    def export(self, **variables: str) -> None:
        """Sets them in the shell."""
        for name, value in variables.items():
            assert self.run(f"export {name}='{value}'").code == 0

    def database(self, data_dir: str = "weighbridge-data") -> Database:
        """What commands read and write that run on this data folder."""
        storage = Storage(data_dir=self.folder / data_dir)
        storage.data_dir.mkdir(mode=0o700, exist_ok=True)
        return open_database(storage)

    def key(self, project: str, limits: str = "", of_key: str = "", *, data_dir: str = "weighbridge-data") -> str:
        """A new key of a project, which is made with these limits where it isn't there; limits are `rpm=60;ipm=5`."""
        database, now = self.database(data_dir), time.time_ns() // 1000
        if all(there.name != project for there in projects.list_projects(database)):
            projects.create(database, project, now, actor="cli:test", limits=_limits(limits))
        drawn = SystemRandom().randrange
        return keys.create(database, project, "notebook", now, drawn, actor="cli:test", limits=_limits(of_key))[1]

    def serve(self, port: int, app: ASGIApp, certificate: Path | None = None) -> None:
        """Serves an application at a door of this machine, until the end."""
        self.at_end.enter_context(serving_at(self.doors[port], app, certificate))

    def google(self, app: ASGIApp) -> None:
        """Puts an application where Google's API is, with a certificate that is believed here."""
        certificate = make_certificate(self.notes, GOOGLE)
        self.serve(443, app, certificate.path)
        self.export(SSL_CERT_FILE=str(certificate.path))

    def forward(self, port: int, to: int) -> None:
        """What connects to a port of this machine is connected with one of the test's machine."""
        door = self.doors[port].fileno()
        forwarding = subprocess.Popen([sys.executable, "-I", "-c", _FORWARD, str(door), str(to)], pass_fds=[door])
        self.at_end.callback(forwarding.wait)
        self.at_end.callback(forwarding.kill)

    def end(self) -> None:
        """Kills all that was started here."""
        for group in (*self.servers, self.shell.pid):
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        with closing(self.shell.stdin):  # type: ignore[type-var]
            self.shell.wait(30)

    def _note(self, command: str) -> Path:
        self._number += 1
        note = self.notes / str(self._number)
        note.with_suffix(".sh").write_text(command)
        return note

    def _say(self, line: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{line}\n")
        self.shell.stdin.flush()


def _limits(text: str) -> tuple[Limit, ...]:
    return parse_all(filter(None, text.split(";")))


def _runs(group: int) -> bool:
    """Whether any process of a group is left that isn't dead already."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def installed(folder: Path) -> Path:
    """A virtual environment as `make` leaves it: with this checkout, what it needs, and the command `weighbridge`."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([ROOT / "scripts" / "install", folder], check=True)
    return folder


@contextmanager
def machine(folder: Path, environment: Path, *ports: int) -> Iterator[Machine]:
    """A machine with the command of `environment` on its path, an empty folder, and `ports` for the test to serve."""
    home, notes = folder / "home", folder / "notes"
    home.mkdir()
    notes.mkdir()
    (notes / "hosts").write_text(f"127.0.0.1 localhost {' '.join(HOSTS)}\n")
    path = f"{environment}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
    environ = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "PYTHONWARNINGS": "error"}
    ours, theirs = socket.socketpair()
    with ours, ExitStack() as at_end:
        with theirs:
            boot = [sys.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno()), str(notes / "hosts")]
            shell = subprocess.Popen(
                ["unshare", "--map-root-user", "--net", "--mount", *boot, *map(str, ports)],
                cwd=home,
                env=environ,
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                text=True,
                start_new_session=True,
            )
        _, given, _, _ = socket.recv_fds(ours, 1, len(ports) or 1)
        assert len(given) == len(ports), "the machine didn't come up"
        doors = {port: at_end.enter_context(socket.socket(fileno=fd)) for port, fd in zip(ports, given, strict=True)}
        made = Machine(home, notes, shell, doors, at_end)
        try:
            yield made
        finally:
            made.end()
