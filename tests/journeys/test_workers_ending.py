"""How several workers start and end together: drains, Ctrl-C, a supervisor that dies, a start that fails."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.billing.ledger_schema import SCHEMA_VERSION
from tests.certificates import make_certificate
from tests.journeys.many import lives, logged, with_workers
from tests.journeys.test_serving import ANSWER, AT_ONCE, WHOLE, Caller, ended, tell, under_way
from tests.journeys.watching import connect, refuses, until
from tests.redis_servers import RedisServer
from tests.scripted import Scripted, scripted
from tests.stand import SERVES, Weighbridge


@contextmanager
def waiting() -> Iterator[tuple[Scripted, threading.Event]]:
    """An upstream that answers when it is told to."""
    go = threading.Event()

    def answer_when_told(connection: Any) -> None:
        go.wait()
        connection.sendall(WHOLE)

    with scripted(answer_when_told) as script:
        try:
            yield script, go
        finally:
            go.set()


def not_ready(url: str) -> bool:
    return httpx2.get(f"{url}/readyz", timeout=30).status_code == 503


def waited_for(stand: Weighbridge, before: int) -> int:
    """How many calls those wait for who have said so, after so many others did."""
    return sum(int(str(line["in_flight"])) for line in logged(stand, "closing")[before:])


def test_a_drain_waits_for_all_and_ctrl_c_does_not(
    redis_server: RedisServer, tmp_path: Path, at_end: ExitStack
) -> None:
    """SIGTERM: not ready, accepting for a while, then the calls in flight finish whole, also what came meanwhile."""
    with waiting() as (script, go):
        stand = with_workers(at_end, tmp_path, script.base_url, redis_server, server={"lame_duck_seconds": 3})
        caller = Caller(stand)
        stand.start()
        calling = [caller.call() for _ in range(AT_ONCE - 1)]
        under_way(script, AT_ONCE - 1)
        tell(stand, signal.SIGTERM)
        for door in (stand.base_url, stand.admin_url):
            until(lambda at=door: not_ready(at), f"{door} is not ready")  # type: ignore[misc]
        calling.append(caller.call())
        under_way(script, AT_ONCE)
        until(lambda: refuses(stand.base_url), "the gateway door is closed")
        assert not_ready(stand.admin_url)
        go.set()
        assert [(call.result().status_code, call.result().content) for call in calling] == [(200, ANSWER)] * AT_ONCE
        assert ended(stand) == 0
        assert [record.outcome for record in stand.records()] == ["ok"] * AT_ONCE
        assert {line["process"] for line in logged(stand, "draining")} == {"worker 0", "worker 1"}

        go.clear()
        stand.start()
        calling = [caller.call() for _ in range(AT_ONCE)]
        under_way(script, 2 * AT_ONCE)
        before = len(logged(stand, "closing"))
        tell(stand, signal.SIGINT)
        until(lambda: refuses(stand.base_url), "the gateway door is closed")
        until(lambda: waited_for(stand, before) == AT_ONCE, "all say for how many calls they wait")
        tell(stand, signal.SIGINT)
        assert ended(stand) == 0
        assert all(isinstance(call.exception(), httpx2.TransportError) for call in calling)
        outcomes = Counter(record.outcome for record in stand.records())
        assert outcomes == {"ok": AT_ONCE, "unsettled": AT_ONCE}


def test_when_the_supervisor_dies_all_end_once_their_calls_have(
    redis_server: RedisServer, tmp_path: Path, at_end: ExitStack
) -> None:
    """Until then nobody else can serve on this folder; afterwards it starts as ever."""
    with waiting() as (script, go):
        stand = with_workers(at_end, tmp_path, script.base_url, redis_server)
        caller = Caller(stand)
        stand.start()
        calling = [caller.call() for _ in range(AT_ONCE)]
        under_way(script, AT_ONCE)
        assert stand.process is not None
        pid = stand.process.pid
        stand.process.kill()
        until(lambda: refuses(stand.base_url), "the gateway door is closed")
        until(lambda: refuses(stand.admin_url), "the control process has ended")
        died = until(lambda: found if len(found := logged(stand, "supervisor_died")) >= 3 else [], "all say so")
        assert sorted(str(line["process"]) for line in died) == ["control process", "worker 0", "worker 1"]
        second = stand.popen("proxy", "serve")
        assert (second.wait(30), second.communicate()[0]) == (1, "")
        assert f"is held by process {pid}: a server already runs on this data_dir" in stand.log()
        go.set()
        assert [call.result().content for call in calling] == [ANSWER] * AT_ONCE
        until(lambda: not lives(stand), "all have ended")
        assert [record.outcome for record in stand.records()] == ["ok"] * AT_ONCE
        assert stand.process.stdout is not None
        stand.process.stdout.close()
        stand.process.wait(30)
        stand.start()
        assert caller.call().result().status_code == 200
        assert stand.stop(signal.SIGTERM) == 0


def test_ctrl_c_in_a_terminal_comes_to_each_process_once(
    redis_server: RedisServer, tmp_path: Path, at_end: ExitStack
) -> None:
    """A terminal sends it to all that run in front; a second one would break off the calls."""
    with waiting() as (script, go):
        stand = with_workers(at_end, tmp_path, script.base_url, redis_server)
        caller = Caller(stand)
        screen, terminal = pty.openpty()
        at_end.callback(os.close, screen)
        with os.fdopen(terminal, "rb") as end:
            command = [sys.executable, "-c", IN_FRONT, *stand._command("proxy", "serve")[1:]]
            with (stand.folder / "log").open("a") as log:
                stand.process = subprocess.Popen(
                    command, stdin=end, stdout=subprocess.PIPE, stderr=log, env=stand._env(), text=True
                )
        assert stand.process.stdout is not None
        stand.serves(stand.process.stdout.readline())
        calling = [caller.call() for _ in range(AT_ONCE)]
        under_way(script, AT_ONCE)
        os.write(screen, b"\x03")
        until(lambda: refuses(stand.base_url), "the gateway door is closed")
        go.set()
        assert [call.result().content for call in calling] == [ANSWER] * AT_ONCE
        assert stand.wait() == 0
        assert [record.outcome for record in stand.records()] == ["ok"] * AT_ONCE


IN_FRONT = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes standard input the terminal that it controls, and becomes the command."""


def test_a_renewed_certificate_is_shown_by_all_workers(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    shown = make_certificate(tmp_path, "127.0.0.1").path.rename(tmp_path / "shown.pem")
    tls = {"tls_cert": str(shown), "tls_key": str(shown)}
    stand = with_workers(at_end, tmp_path, upstream, redis_server, server=tls)
    stand.start()
    before = ssl.create_default_context(cafile=shown)
    with httpx2.Client(base_url=stand.base_url, verify=before) as client:
        assert client.get("/healthz").status_code == 200
        make_certificate(tmp_path, "127.0.0.1").path.replace(shown)
        tell(stand, signal.SIGHUP)
        until(lambda: len(logged(stand, "configuration_reloaded")) >= 3, "all have read it")
        assert client.get("/healthz").status_code == 200, "a connection that stands is kept"
    after = ssl.create_default_context(cafile=shown)
    for _ in range(20):
        with connect(stand.base_url) as plain, after.wrap_socket(plain, server_hostname="127.0.0.1"):
            continue
    assert {line["process"] for line in logged(stand, "configuration_reloaded")} == {
        "worker 0",
        "worker 1",
        "control process",
    }
    metrics = httpx2.get(f"{stand.admin_url}/metrics").text
    assert 'weighbridge_config_reloads_total{outcome="applied"} 1.0' in metrics, "once, however many read it"


def garbage(path: Path) -> None:
    path.write_bytes(b"no ledger " * 1000)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE file (file_id TEXT, schema_version INTEGER)")
        file.execute("INSERT INTO file VALUES ('a', ?)", (SCHEMA_VERSION + 1,))
        file.commit()


@pytest.mark.parametrize(
    ("file", "spoil", "sentence"),
    [
        ("ledger/1.db", newer, "ledger/1.db was written by a newer version"),
        ("ledger/1.db", garbage, "ledger/1.db can't be opened: file is not a database"),
        ("weighbridge.db", garbage, "weighbridge.db"),
    ],
)
def test_a_start_that_fails_says_why_once_and_leaves_nothing_running(
    redis_server: RedisServer,
    tmp_path: Path,
    at_end: ExitStack,
    file: str,
    spoil: Callable[[Path], None],
    sentence: str,
) -> None:
    stand = with_workers(at_end, tmp_path, "http://127.0.0.1:9", redis_server)
    (stand.data_dir / "ledger").mkdir(parents=True, mode=0o700)
    spoil(stand.data_dir / file)
    stand.spawn()
    assert stand.process is not None
    assert (stand.process.wait(30), stand.process.communicate()[0]) == (1, "")
    (line,) = [line for line in stand.log().splitlines() if not line.startswith("{")]
    assert line.startswith("error: ")
    assert sentence in line
    assert not lives(stand)


def test_a_door_that_is_taken_is_told_before_anything_starts(
    redis_server: RedisServer, tmp_path: Path, at_end: ExitStack
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        door = {"admin_port": taken.getsockname()[1]}
        stand = with_workers(at_end, tmp_path, "http://127.0.0.1:9", redis_server, server=door)
        stand.spawn()
        assert stand.process is not None
        assert (stand.process.wait(30), stand.process.communicate()[0]) == (1, "")
    assert "Can't listen on 127.0.0.1:" in stand.log()
    assert "server.admin_port" in stand.log()


def test_several_workers_without_redis_are_refused(tmp_path: Path) -> None:
    stand = Weighbridge(tmp_path, "http://127.0.0.1:9")
    refused = stand.popen("proxy", "serve", "--workers", "2")
    assert (refused.wait(30), refused.communicate()[0]) == (1, "")
    assert "server.workers is 2, and storage.redis_url is not set" in stand.log()
    assert SERVES.search(json.dumps(stand.log())) is None
