"""A whole Weighbridge for tests: the real process, an emulator or any other upstream behind it, a project and a key."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from proxy.billing import reports
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import UsageRecord
from proxy.config.schema import Storage
from proxy.emulator.app import DEFAULT_KEY, create_app
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from tests.postgres_servers import PASSWORD
from tests.servers import running

Section = Mapping[str, object]
Settings = Mapping[str, Section | Sequence[Section]]
"""Sections of a weighbridge.toml. `upstreams` is what its one upstream has besides, or a list of several."""

SERVES = re.compile(r"Weighbridge serves at (\S+?)(?: with \d+ workers)?; metrics at (\S+)/metrics")


@dataclass
class Weighbridge:
    """A `weighbridge serve` on free ports, its files in `folder`. `environment` is what it finds there besides ours."""

    folder: Path
    upstream_url: str
    settings: Settings = field(default_factory=dict)
    upstream_key: str = DEFAULT_KEY
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    base_url: str = ""
    admin_url: str = ""

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def storage(self) -> Storage:
        """Where it keeps what it keeps; PostgreSQL's password is the one that all servers of tests have."""
        given = self.settings.get("storage", {})
        assert isinstance(given, Mapping)
        password = {"database_password": SecretStr(PASSWORD)} if "database_url" in given else {}
        return Storage.model_validate({"data_dir": self.data_dir, **given, **password})

    def key(self, project: str = "alice", name: str = "test") -> str:
        """A new key of a project, which is made where it isn't there."""
        database, now = open_database(self.storage), time.time_ns() // 1000
        if all(there.name != project for there in projects.list_projects(database)):
            projects.create(database, project, now, actor="test")
        return keys.create(database, project, name, now, secrets.randbelow, actor="test")[1]

    def start(self) -> None:
        """Starts the process and waits until both doors are open."""
        self.spawn()
        self.started()

    def started(self) -> None:
        """Waits until both doors of a process that was spawned are open."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.serves(self.process.stdout.readline())

    def spawn(self) -> None:
        """Starts the process, whatever becomes of it."""
        self.process = self.popen("proxy", "serve")

    def popen(self, module: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Starts a command, its errors going to the log."""
        command, env = self._command(module, *arguments), self._env()
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(command, **{"stdout": subprocess.PIPE} | options, stderr=log, env=env, text=True)

    def serves(self, line: str) -> None:
        """Takes the addresses of both doors from the line that tells them."""
        found = SERVES.match(line)
        assert found is not None, f"{line or f'it ended with {self.wait()}'}\n{self.log()}"
        self.base_url, self.admin_url = found[1], found[2]

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Ends the process, and waits for that. Its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Waits until the process ends by itself. Its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def close(self) -> None:
        """Kills the process, if it runs."""
        if self.process is not None:
            self.stop(signal.SIGKILL)

    def run(self, *arguments: str) -> str:
        """Runs a command to its end; what it prints."""
        command = self._command("proxy", *arguments)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=self._env(), text=True).stdout

    def _command(self, module: str, *arguments: str) -> list[str]:
        config, toml = self.folder / "weighbridge.toml", self._toml()
        if not config.exists() or config.read_text() != toml:  # a server that runs reads what is written again
            config.write_text(toml)
        return [sys.executable, "-m", module, *arguments, "--config", str(config)]

    def _env(self) -> dict[str, str]:
        return {**os.environ, "UPSTREAM_KEY": self.upstream_key, **self.environment}

    def log(self) -> str:
        """Its whole lines: one that crosses a page of the file is seen in part while it is written."""
        written = (self.folder / "log").read_bytes()
        return written[: written.rfind(b"\n") + 1].decode()

    def records(self) -> list[UsageRecord]:
        """The ledger, in the order of writing."""
        return list(reports.export(ledger_files(self.data_dir)))

    def _toml(self) -> str:
        sections: dict[str, Section] = {
            "server": {"port": 0, "admin_port": 0, "lame_duck_seconds": 0},
            "storage": {"data_dir": str(self.data_dir)},
        }
        settings = dict(self.settings)
        given = settings.pop("upstreams", {})
        upstreams = [{"name": "emulator", **given}] if isinstance(given, Mapping) else given
        tables: list[tuple[str, Mapping[str, object]]] = []
        for name, section in settings.items():
            if isinstance(section, Mapping):
                sections[name] = {**sections.get(name, {}), **section}
            else:
                tables += [(f"[[{name}]]", entry) for entry in section]
        tables += [(f"[{name}]", section) for name, section in sections.items()]
        ours = {"base_url": self.upstream_url, "api_key_env": "UPSTREAM_KEY"}
        tables += [("[[upstreams]]", {**ours, **upstream}) for upstream in upstreams]
        lines = []
        for head, section in tables:
            lines.append(head)
            lines += [f"{key} = {_toml_value(value)}" for key, value in section.items()]
        return "\n".join(lines) + "\n"


@contextmanager
def weighbridge(folder: Path, upstream_url: str, settings: Settings | None = None) -> Iterator[Weighbridge]:
    """A running Weighbridge in front of `upstream_url`; `settings` are sections of its weighbridge.toml."""
    stand = Weighbridge(folder, upstream_url, settings or {})
    stand.start()
    try:
        yield stand
    finally:
        if stand.process is not None and stand.process.poll() is None:
            stand.stop()


@contextmanager
def emulator(**options: object) -> Iterator[str]:
    """A running emulator; gives its base URL."""
    with running(create_app(**options)) as base_url:  # type: ignore[arg-type]
        yield base_url


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml_value(each)}' for key, each in value.items())}}}"
    return str(value) if isinstance(value, int | float) else f'"{value}"'
