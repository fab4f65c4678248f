"""Starts LiteLLM's proxy and Portkey's gateway for `bench.peers`, from where they are installed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

from bench import stand

LITELLM_KEY = "sk-bench-of-weighbridge"
UPSTREAM_KEY = "bench-upstream-key"
CONFIG = """
general_settings:
  master_key: {key}
litellm_settings:
  set_verbose: false
  request_timeout: 600
  callbacks: [{callbacks}]
"""
QUIET = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""No line for a call; no `.env` file; the price map that it brings along, and not one from the network."""
COUNTING = """
import json
from litellm.integrations.custom_logger import CustomLogger

class Counting(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        said = kwargs["standard_logging_object"]
        counted = {name: said[name] for name in ("prompt_tokens", "completion_tokens", "response_cost")}
        with open("counted.jsonl", "a") as file:
            print(json.dumps(counted), file=file)

counting = Counting()
"""
"""LiteLLM tells a callback what it counted; it is there while that is looked at, and not while it is measured."""
PORTKEY = Path("node_modules", "@portkey-ai", "gateway")
COUNTED_WITHIN_S = 20


@contextlib.contextmanager
def litellm(folder: Path, home: Path, upstream_port: int, *, counting: bool = False) -> Generator[tuple[int, int]]:
    """Yields LiteLLM's pid and port: one worker, no database, and a key that its configuration names.

    `home` is the virtual environment that it is in; `counting` has it write what it counts into `counted.jsonl`.
    """
    folder.mkdir()
    config, port = folder / "litellm.yaml", stand.free_port()
    (folder / "bench_counting.py").write_text(COUNTING)
    callbacks = "bench_counting.counting" if counting else ""
    config.write_text(CONFIG.format(key=LITELLM_KEY, callbacks=callbacks))
    where = {"GEMINI_API_KEY": UPSTREAM_KEY, "GEMINI_API_BASE": f"http://127.0.0.1:{upstream_port}"}
    options = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with _logged(folder, str(home / "bin" / "litellm"), *options, env={**QUIET, **where}) as pid:
        _wait_for(port)
        yield pid, port


@contextlib.contextmanager
def portkey(folder: Path, home: Path) -> Generator[tuple[int, int]]:
    """Yields the pid and port of Portkey's gateway. `home` has the `node_modules` that it is in."""
    folder.mkdir()
    port, program = stand.free_port(), home / PORTKEY / "build" / "start-server.js"
    env = {"NODE_ENV": "production"}
    # `node` may be a script that starts another process, which would outlive it
    node = subprocess.run([stand.need("node"), "-p", "process.execPath"], check=True, capture_output=True, text=True)
    with _logged(folder, node.stdout.strip(), str(program), f"--port={port}", "--headless", env=env) as pid:
        _wait_for(port)
        yield pid, port


@contextlib.contextmanager
def _logged(folder: Path, *command: str, env: dict[str, str]) -> Generator[int]:
    """Runs it in that folder, where what it says goes into `log`: nobody reads a pipe here."""
    shell = ["sh", "-c", 'cd "$0" && exec "$@" >log 2>&1', str(folder)]
    with stand.running(stand.PROXY_CORE, *shell, *command, env=env) as process:
        yield process.pid


def _wait_for(port: int) -> None:
    """LiteLLM takes some ten seconds to start, and a minute where other programs run."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return
        time.sleep(0.2)
    sys.exit(f"Nothing answers on port {port} after two minutes.")


def counted(folder: Path) -> dict[str, Any]:
    """What a LiteLLM that counts made of the one call that it has had."""
    deadline, file = time.monotonic() + COUNTED_WITHIN_S, folder / "counted.jsonl"
    while time.monotonic() < deadline:
        if file.exists() and (line := file.read_text()).endswith("\n"):
            said: dict[str, Any] = json.loads(line)
            return said
        time.sleep(0.1)
    sys.exit("LiteLLM counted nothing.")


def litellm_version(home: Path) -> str:
    ask = "from importlib.metadata import version; print(version('litellm'))"
    command = [str(home / "bin" / "python"), "-c", ask]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def portkey_versions(home: Path) -> dict[str, str]:
    def of(folder: Path) -> str:
        return str(json.loads((folder / "package.json").read_text())["version"])

    node = subprocess.run([stand.need("node"), "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "Portkey gateway": of(home / PORTKEY),
        "@hono/node-server": of(home / "node_modules" / "@hono" / "node-server"),
        "Node": node.removeprefix("v"),
    }


def memory_mib(pid: int) -> dict[str, float]:
    """Of a process and its descendants: resident memory, and the same with what is shared divided among its sharers."""
    found = {"Rss": 0, "Pss": 0}
    for one in stand.tree(pid):
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            name = line.partition(":")[0]
            if name in found:
                found[name] += int(line.split()[1])
    return {name.lower(): round(kb / 1024, 1) for name, kb in found.items()}


def is_idle(pid: int, *, within_s: float = 15) -> None:
    """Waits until the process has done what it put off, or for that long: it is part of what the calls took."""
    deadline, spent = time.monotonic() + within_s, stand.processor_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        before, spent = spent, stand.processor_seconds(pid)
        if spent - before <= 2 / os.sysconf("SC_CLK_TCK"):
            return
