"""nginx and Caddy for tests, with the files of deploy/tls: ports, certificate and the folder of logs are other ones."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Certificate
from tests.pages import ROOT
from tests.redis_servers import free_port

TLS = ROOT / "deploy" / "tls"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
DEADLINE_S = 30
HTTP = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/main.log;
events {{ worker_connections 256; }}
http {{ include {folder}/weighbridge.conf; }}
"""
"""What nginx has around a file of conf.d."""


def completes_what_broke_off(kind: str) -> bool:
    """Caddy before 2.7.6, whatever its configuration, ends a chunked response as if it were whole: deploy/tls/Caddyfile
    asks for a later one, and distributions have that one."""
    if kind != "caddy":
        return False
    told = subprocess.run([_program(kind), "version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"v?(\d+)\.(\d+)\.(\d+)", told)  # one that was built by hand says "unknown"
    return version is not None and tuple(map(int, version.groups())) < (2, 7, 6)


@dataclass(frozen=True)
class Front:
    """A running one of COMMANDS, at https://localhost:`port`; it writes its logs into `logs`."""

    kind: str
    port: int
    logs: Path


def has_fronts() -> bool:
    return all(shutil.which(program, path=PATH) for program in ("nginx", "caddy"))


def _program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found is not None, f"{name} isn't installed"
    return found


def _in_place(file: str, other: Mapping[str, str]) -> str:
    """The text of a file of deploy/tls; each of the texts that are to be other ones is there."""
    text = (TLS / file).read_text()
    for shipped, ours in other.items():
        assert shipped in text, f"{file} has no {shipped}"
        text = text.replace(shipped, ours)
    return text


def _nginx(folder: Path, port: int, server: str, certificate: Certificate) -> list[str]:
    other = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "127.0.0.1:8080": server,
        "/etc/ssl/weighbridge/fullchain.pem": str(certificate.path),
        "/etc/ssl/weighbridge/privkey.pem": str(certificate.path),
        "/var/log/nginx": str(folder),
    }
    (folder / "weighbridge.conf").write_text(_in_place("nginx.conf", other))
    (folder / "nginx.conf").write_text(HTTP.format(folder=folder))
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _caddy(folder: Path, port: int, server: str, certificate: Certificate) -> list[str]:
    site = f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate.path} {certificate.path}\n"
    other = {
        "gemini.example.com {\n": site,
        "\n{\n": "\n{\n\tadmin off\n\tauto_https disable_redirects\n",
        "127.0.0.1:8080": server,
        "/var/log/caddy": str(folder),
    }
    (folder / "Caddyfile").write_text(_in_place("Caddyfile", other))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


COMMANDS = {"nginx": _nginx, "caddy": _caddy}


@contextmanager
def running_front(kind: str, folder: Path, server: str, certificate: Certificate) -> Iterator[Front]:
    """Before a server at host:port; stopped at the end."""
    folder.mkdir()
    port = free_port()
    program, *arguments = COMMANDS[kind](folder, port, server, certificate)
    found = _program(program)
    env = {"HOME": str(folder), "PATH": PATH}
    with (folder / "output").open("ab") as log:
        process = subprocess.Popen([found, *arguments], stdout=log, stderr=log, env=env, cwd=folder)
    try:
        _await(process, port, folder / "output")
        yield Front(kind, port, folder)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + DEADLINE_S
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), DEADLINE_S):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)
