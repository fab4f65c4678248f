"""Starts what the bench measures, on loopback and free ports, each on its core, and stops it by pid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path

PROXY_CORE, LOAD_CORE = "0", "1"
PACKAGES = {"gcc": "gcc", "nginx": "nginx-light", "redis-server": "redis-server", "taskset": "util-linux", "wrk": "wrk"}
"""The programs that it runs, and where Debian has them."""
TICK = os.sysconf("SC_CLK_TCK")

LIMITS = [
    *(f"--{kind}=1000000000" for kind in ("rpm", "tpm", "rpd", "ipm", "concurrency")),
    "--limit=usd=1000000,per=day",
    "--limit=usd=1000000,per=month",
]

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 100m; client_body_buffer_size 64k; keepalive_requests 1000000000;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off;
    {buffers}
    location / {{ proxy_pass http://up; }}
  }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def need(program: str) -> str:
    """The program's path. Ends the bench with a sentence where it isn't there."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        sys.exit(f"The bench needs {program}. On Debian and Ubuntu: apt-get install {' '.join(PACKAGES.values())}")
    return path


def pinned(core: str) -> list[str]:
    """What to put before a command so that it runs on that core alone."""
    return [need("taskset"), "-c", core]


@contextlib.contextmanager
def running(
    core: str, *command: str, env: dict[str, str] | None = None, log: Path | None = None
) -> Generator[subprocess.Popen[str]]:
    """`log` takes its standard error: a server tells each call in a line, which it costs to write."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w")) if log else None
        process = subprocess.Popen(
            [*pinned(core), *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def upstream(folder: Path, files: list[Path]) -> Generator[int]:
    program, port = folder / "upstream", free_port()
    source = Path(__file__).with_name("upstream.c")
    subprocess.run([need("gcc"), "-O2", "-o", str(program), str(source)], check=True)
    with running(LOAD_CORE, str(program), str(port), *map(str, files)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield port


@contextlib.contextmanager
def nginx(folder: Path, upstream_port: int, buffer: str = "") -> Generator[tuple[int, int]]:
    """Yields nginx's pid and port. It has buffers of that size, such as "64k", or else its own."""
    folder.mkdir()
    folder.chmod(0o755)
    port, config = free_port(), folder / "nginx.conf"
    sizes = f"proxy_buffer_size {buffer}; proxy_buffers 4 {buffer}; proxy_busy_buffers_size {buffer};"
    buffers = sizes if buffer else ""
    config.write_text(NGINX.format(folder=folder, upstream=upstream_port, port=port, buffers=buffers))
    with running(PROXY_CORE, need("nginx"), "-c", str(config), "-p", str(folder)) as process:
        wait_for(port)
        yield process.pid, port


@contextlib.contextmanager
def redis() -> Generator[str]:
    """Yields the URL of a Redis that keeps nothing on disk."""
    port = free_port()
    with running(LOAD_CORE, need("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""):
        wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def weighbridge(
    folder: Path,
    upstream_port: int,
    redis_url: str = "",
    upstreams: int = 1,
    like: tuple[Path, str] | None = None,
    workers: int = 1,
) -> Generator[tuple[int, int, str]]:
    """Yields Weighbridge's pid, port and a key. Its project has limits of every kind, and none is reached.

    All of its `upstreams` are the same server. `like`: another one's folder and key, for the same key to be good here.
    """
    folder.mkdir()
    port, config = free_port(), folder / "weighbridge.toml"
    config.write_text(
        f"[server]\nport = {port}\nadmin_port = {free_port()}\nlame_duck_seconds = 0\nworkers = {workers}\n"
        f'[storage]\ndata_dir = "{folder}/data"\nredis_url = "{redis_url}"\n'
        + "".join(
            f'[[upstreams]]\nname = "bench-{number}"\nbase_url = "http://127.0.0.1:{upstream_port}"\n'
            'api_key_env = "BENCH_KEY"\n'
            for number in range(upstreams)
        )
    )
    env = {"BENCH_KEY": "bench-upstream-key"}
    if like is None:
        key = _key(config, env)
    else:
        (folder / "data").mkdir(mode=0o700)
        for file in (like[0] / "data").glob("weighbridge.db*"):
            shutil.copy(file, folder / "data")
        key = like[1]
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(config)]
    with running(PROXY_CORE, *command, env=env, log=config.with_name("log")) as process:
        wait_for(port)
        yield process.pid, port, key


def _key(config: Path, env: dict[str, str]) -> str:
    """A key of a new project."""
    command = [sys.executable, "-m", "proxy"]
    subprocess.run(
        [*command, "project", "create", "bench", *LIMITS, "--config", str(config)],
        check=True,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
    )
    made = subprocess.run(
        [*command, "key", "create", "bench", "--json", "--config", str(config)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    return str(json.loads(made.stdout)["key"])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"Nothing listens on port {port} after 20 s.")


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its descendants."""
    stats = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in tree(pid)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICK


def fetch(url: str, body: bytes, key: str) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json", "x-goog-api-key": key})
    with urllib.request.urlopen(request, timeout=30) as response:
        return bytes(response.read())
