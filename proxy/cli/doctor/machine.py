"""What is looked at of the machine: time zone data, files that may be open, and the doors' addresses."""

from __future__ import annotations

import importlib
import re
import resource
import socket
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

import httpx2

from proxy.billing.ledger_slot import Owner
from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.schema import Server, base_url, from_here
from proxy.resources import FILES_BESIDES, FILES_PER_CALL

ZONE_DATA_GOOD_FOR_YEARS = 2
ANSWERS_WITHIN_S = 3.0


def check_time_zone(name: str, today: date, places: Iterable[str] = zoneinfo.TZPATH) -> Iterator[Finding]:
    """Whether the data behind `limits.timezone` is recent: governments move their clocks."""
    version = _version(name, places)
    if version is None:
        yield ok(f"{name}: known; its data doesn't say of when it is")
    elif today.year - int(version[:4]) > ZONE_DATA_GOOD_FOR_YEARS:
        yield warning(
            f"{name}: the time zone data is of {version}; rules may have changed since, and days end at midnight there",
            "update the system's package tzdata, or Python's: pip install --upgrade tzdata",
        )
    else:
        yield ok(f"{name}: known, by time zone data of {version}")


def _version(name: str, places: Iterable[str]) -> str | None:
    """Such as "2025b": of the data that Python takes, the system's before the package's."""
    for place in map(Path, places):
        if (place / name).is_file():
            try:
                first = (place / "tzdata.zi").read_text("utf-8").partition("\n")[0]
            except OSError:
                return None
            found = re.fullmatch(r"# version (\d{4}\w*).*", first)
            return found[1] if found else None
    try:
        return str(importlib.import_module("tzdata").IANA_VERSION)
    except ImportError:
        return None


def check_open_files(connections: int) -> Iterator[Finding]:
    """`connections` are those that all upstreams may have at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections * FILES_PER_CALL + FILES_BESIDES
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield warning(
            f"a process may open {hard:,} files, and {connections:,} calls at once (upstreams.max_connections) need "
            f"{needed:,}",
            "raise the hard limit (LimitNOFILE= in the systemd unit, ulimit -Hn in a shell), or lower max_connections",
        )
    else:
        yield ok(f"{connections:,} calls at once fit into the files that a process may open")


def check_doors(server: Server, owner_of: Callable[[], Owner | None]) -> Iterator[Finding]:
    """Both addresses: free, or held by the server that runs on this data folder, for which `owner_of` asks."""
    owner = owner_of()
    gateway = base_url("https" if server.tls_cert else "http", server.host, server.port)
    control = base_url("http", server.admin_host, server.admin_port)
    yield _door("gateway door", "server.host", server.host, server.port) or _holder("gateway door", gateway, owner)
    yield _door("control door", "server.admin_host", server.admin_host, server.admin_port) or (
        _holder("control door", control, owner)
    )


def _door(door: str, setting: str, host: str, port: int) -> Finding | None:
    """None where somebody listens there."""
    at = f"{door}, {host}:{port}"
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return problem(f"{at}: {error.strerror}", f"set {setting} to an address of this machine")
    if not port:
        return ok(f"{door}: takes a free port of {host}")
    try:
        socket.create_connection((from_here(host), port), ANSWERS_WITHIN_S).close()
    except OSError:
        return ok(f"{at}: free")
    return None


def _holder(door: str, url: str, owner: Owner | None) -> Finding:
    # Its certificate needn't be for this address: it is told nothing, and what it says is shown to nobody.
    try:
        answer = httpx2.get(f"{url}/healthz", timeout=ANSWERS_WITHIN_S, trust_env=False, verify=False)
        ours = answer.text == "ok\n"
    except httpx2.HTTPError:
        ours = False
    if owner is not None and ours:
        return ok(f"{door}, {url}: held by the server that runs on this data folder, {owner.process}")
    who = "a Weighbridge with another data folder" if ours else "another program"
    return problem(f"{door}, {url}: held by {who}", "stop it, or choose another port: server.port, server.admin_port")
