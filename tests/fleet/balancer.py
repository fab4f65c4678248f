"""haproxy before the nodes: it asks each whether it is ready, and calls one that is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fleet.node import Node
from tests.journeys.watching import DEADLINE_S, refuses, until
from tests.redis_servers import free_port

CONFIG = """
global
    maxconn 8000
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout check 10s
    retries 3
    option redispatch 1
frontend door
    bind 127.0.0.1:{port}
    http-response set-header x-node %s
    default_backend nodes
backend nodes
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 200ms fall 1 rise 1
{servers}
"""
"""A check fails by its answer or by a refused connection. A machine that stalls makes it late: that isn't failed."""


@dataclass
class Balancer:
    base_url: str
    process: subprocess.Popen[bytes]


@contextmanager
def haproxy(folder: Path, nodes: Sequence[Node]) -> Iterator[Balancer]:
    """A running haproxy."""
    folder.mkdir(parents=True, exist_ok=True)
    port, file = free_port(), folder / "haproxy.cfg"
    servers = "\n".join(f"    server {node.name} {node.host}:{node.port}" for node in nodes)
    file.write_text(CONFIG.format(port=port, servers=servers))
    with (folder / "haproxy.log").open("ab") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        base_url = f"http://127.0.0.1:{port}"
        until(lambda: process.poll() is not None or not refuses(base_url), "haproxy listens", DEADLINE_S)
        assert process.poll() is None, (folder / "haproxy.log").read_text()
        yield Balancer(base_url, process)
    finally:
        process.terminate()
        process.wait(30)
