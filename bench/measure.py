"""One measurement each: processor time per call, latency one call at a time, system calls per call."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from bench import stand
from bench.payloads import EVENTS, Payload, request_body

LUA = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["x-goog-api-key"] = "{key}"
wrk.headers["user-agent"] = "google-genai-sdk/3.4.0 gl-python/3.11.7"
wrk.headers["x-goog-api-client"] = "google-genai-sdk/3.4.0 gl-python/3.11.7"
wrk.headers["accept"] = "*/*"
wrk.headers["accept-encoding"] = "gzip, deflate"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
function done(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  local p50, p99 = latency:percentile(50), latency:percentile(99)
  print(string.format("calls %d, failed %d, p50 %d us, p99 %d us", summary.requests, failed, p50, p99))
end
"""
KINDS = {
    "reads": ("read", "readv", "recvfrom", "recvmsg"),
    "writes": ("write", "writev", "sendto", "sendmsg"),
    "waits for events": ("epoll_wait", "epoll_pwait"),
    "changes of what is waited for": ("epoll_ctl", "io_uring_enter"),
    "futex": ("futex",),
    "writes of the ledger": ("pwrite64",),
    "fsyncs": ("fsync", "fdatasync"),
}
"""System calls, by what they are for; all others are added up as `others`."""


class Load(NamedTuple):
    """What wrk says of one run: the calls completed, and how long one took."""

    calls: int
    p50_us: int
    p99_us: int


class Side(NamedTuple):
    """A proxy under load: whose processor time is read, and where it listens. `pid` is 0 where there is no proxy."""

    name: str
    pid: int
    port: int
    asked: Payload | None = None
    """What it is asked in place of what the others are."""


def prepare(folder: Path, payload: Payload, key: str) -> None:
    """Writes what `load` reads."""
    body = folder / f"{payload.letter}.json"
    body.write_bytes(request_body(payload))
    (folder / f"{payload.letter}.lua").write_text(LUA.format(key=key, body=body))


def load(
    folder: Path, payload: Payload, port: int, seconds: int, connections: int | None = None, cores: str | None = None
) -> Load:
    """Keeps the payload's connections busy. Ends the bench if any call failed."""
    wrk = [stand.need("wrk"), "-t1", f"-c{connections or payload.connections}", f"-d{seconds}s", "--timeout", "30s"]
    script = str(folder / f"{payload.letter}.lua")
    command = [*stand.pinned(cores or stand.LOAD_CORE), *wrk, "-s", script, f"http://127.0.0.1:{port}{payload.path}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"calls (\d+), failed (\d+), p50 (\d+) us, p99 (\d+) us", said)
    if found is None or int(found[2]) or not int(found[1]):
        sys.exit(f"calls failed:\n{said}")
    return Load(int(found[1]), int(found[3]), int(found[4]))


def processor_time(folder: Path, payload: Payload, side: Side, seconds: int) -> float:
    """Microseconds of the side's processes, user and system, per call or per event."""
    before = stand.processor_seconds(side.pid)
    calls = load(folder, payload, side.port, seconds).calls
    spent = stand.processor_seconds(side.pid) - before
    return spent / calls / (EVENTS if payload.streams else 1) * 1e6


def system_calls(folder: Path, payload: Payload, side: Side, seconds: int) -> dict[str, float]:
    """Per call, by kind. Empty where strace is missing or isn't let at other processes."""
    counts = folder / "strace"
    with _traced(side.pid, counts) as traced:
        calls = load(folder, payload, side.port, seconds).calls
    return by_kind(counts.read_text(), calls) if traced else {}


@contextlib.contextmanager
def _traced(pid: int, counts: Path) -> Generator[bool]:
    strace = shutil.which("strace")
    if strace is None:
        yield False
        return
    targets = [option for one in stand.tree(pid) for option in ("-p", str(one))]
    tracer = subprocess.Popen([strace, "-f", "-c", "-o", str(counts), *targets], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    attached = any(" attached" in line for line in iter(tracer.stderr.readline, ""))
    threading.Thread(target=tracer.stderr.read, daemon=True).start()
    try:
        yield attached
    finally:
        tracer.terminate()
        tracer.wait(30)


def by_kind(table: str, calls: int) -> dict[str, float]:
    """What `strace -c` counted, per call."""
    kinds = {name: kind for kind, names in KINDS.items() for name in names}
    counts = dict.fromkeys([*KINDS, "others"], 0)
    # % time, seconds, usecs/call, calls, maybe errors, name; below the last rule stands the total
    for row in re.finditer(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", table, re.MULTILINE):
        if row[2] != "total":
            counts[kinds.get(row[2], "others")] += int(row[1])
    return {kind: round(count / calls, 2) for kind, count in counts.items()}
