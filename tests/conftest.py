"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config import secrets
from proxy.config.schema import Storage
from proxy.store.database import Database, open_database, upgrade
from tests import disk
from tests.clock import Clock
from tests.deploy.contained import has_containers
from tests.deploy.fronts import has_fronts
from tests.deploy.machine import has_machines
from tests.deploy.prometheus_server import Prometheus, has_prometheus, running_prometheus
from tests.docs.machine import installed
from tests.haproxy_servers import Haproxy, has_haproxy, running_haproxy
from tests.namespaces import Namespace, has_namespaces, namespace
from tests.postgres_servers import (
    PostgresDatabase,
    PostgresServer,
    has_pgbouncer,
    has_postgres,
    running_pgbouncer,
    running_postgres,
)
from tests.proof import Proof
from tests.redis_servers import (
    RedisServer,
    SetClock,
    Watched,
    has_redis,
    has_set_clock,
    running_cluster,
    running_redis,
    running_sentinel,
    running_valkey,
)
from tests.stand import Weighbridge, emulator, weighbridge


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Asynchronous tests run on the event loop that the server runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _no_secret_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has read as a secret is a word like any other in the next."""
    monkeypatch.setattr(secrets, "_known", {})


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """An emulator's base URL."""
    with emulator() as url:
        yield url


@pytest.fixture(scope="module")
def stand(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    """A Weighbridge before that emulator, for the tests of a module that need nothing of their own."""
    with weighbridge(tmp_path_factory.mktemp("weighbridge"), upstream) as running:
        yield running


@pytest.fixture
def proof(request: pytest.FixtureRequest) -> Iterator[Proof]:
    """Takes what a proof counted, and keeps it if the proof was run whole and passed."""
    kept = Proof(request.node.originalname.removeprefix("test_"))
    failed_before = request.session.testsfailed
    yield kept
    if request.session.testsfailed == failed_before:
        kept.keep()


@pytest.fixture
def at_end() -> Iterator[ExitStack]:
    """What is to be closed when the test has ended, however it ended."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def disk_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk.compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture
def watched_disk(tmp_path: Path, disk_library: Path) -> disk.Disk:
    """A folder of which each call of its writers is known, and may be told to fail."""
    return disk.Disk(tmp_path, disk_library)


@pytest.fixture
def wall_clock(tmp_path: Path) -> Clock:
    """The wall clock of servers that are started with its environment."""
    return Clock(tmp_path)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make` makes of a checkout: an environment with the command in it, for pages that are followed."""
    return installed(tmp_path_factory.mktemp("installed") / ".venv")


@pytest.fixture
def other_user() -> int:
    """A user that isn't this one, for files that belong to somebody else. To give them away takes root."""
    return 65534


@pytest.fixture
def far_machine() -> Iterator[Namespace]:
    """A network namespace: what a machine is whose packets can vanish."""
    with namespace() as made:
        yield made


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """An empty redis-server."""
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Three empty servers that are one."""
    with running_cluster(tmp_path) as nodes:
        yield nodes


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Watched]:
    """A master with a replica, and a sentinel that watches them."""
    with running_sentinel(tmp_path) as watched:
        yield watched


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[tuple[RedisServer, SetClock]]:
    """An empty Valkey, and its clock, which stands at noon of some day."""
    with running_valkey(tmp_path / "valkey", 1_795_262_400) as started:
        yield started


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests, which none of them may stop."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """An empty database in PostgreSQL."""
    with postgres_server.lending() as lent:
        yield lent


@pytest.fixture(scope="session")
def postgres_schema(postgres_server: PostgresServer) -> str:
    """The name of a database that is at HEAD, and that nobody uses: to be copied."""
    made = postgres_server.database()
    upgrade(made.storage())
    return made.name


@pytest.fixture
def sqlite_storage(tmp_path: Path) -> Storage:
    return Storage(data_dir=tmp_path)


@pytest.fixture
def postgres_storage(postgres: PostgresDatabase, tmp_path: Path) -> Storage:
    return postgres.storage(data_dir=tmp_path)


@pytest.fixture(params=["sqlite_storage", "postgres_storage"])
def each_storage(request: pytest.FixtureRequest) -> Storage:
    """A configuration that names a database, of each kind that there is; nothing is in it yet."""
    storage: Storage = request.getfixturevalue(request.param)
    return storage


@pytest.fixture
def sqlite_database(sqlite_storage: Storage) -> Database:
    return open_database(sqlite_storage)


@pytest.fixture
def ready_postgres(postgres_server: PostgresServer, postgres_schema: str) -> Iterator[PostgresDatabase]:
    """A database in PostgreSQL that is at HEAD."""
    with postgres_server.lending(postgres_schema) as lent:
        yield lent


@pytest.fixture
def postgres_database(ready_postgres: PostgresDatabase) -> Database:
    return open_database(ready_postgres.storage())


@pytest.fixture
def pgbouncer_database(ready_postgres: PostgresDatabase, pgbouncer: int) -> Database:
    return open_database(replace(ready_postgres, port=pgbouncer).storage())


@pytest.fixture(params=["sqlite_database", "postgres_database"])
def each_database(request: pytest.FixtureRequest) -> Database:
    """The database, at HEAD and empty, of each kind that there is."""
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for one test, which may do with it what it wants."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: PostgresServer) -> Iterator[int]:
    """The port of a pgbouncer in transaction mode before `postgres_server`."""
    with running_pgbouncer(postgres_server) as port:
        yield port


@pytest.fixture
def start_haproxy(tmp_path: Path, at_end: ExitStack) -> Callable[..., Haproxy]:
    """Starts one before servers: their ports by their names. See running_haproxy."""
    return lambda *given: at_end.enter_context(running_haproxy(tmp_path / "haproxy", *given))


@pytest.fixture
def start_prometheus(tmp_path: Path, at_end: ExitStack) -> Callable[..., Prometheus]:
    """Starts one that scrapes these targets. See running_prometheus."""
    return lambda *given, **more: at_end.enter_context(running_prometheus(tmp_path / "prometheus", *given, **more))


@pytest.fixture(scope="session")
def promtool_there() -> None:
    """For tests that run promtool."""


@pytest.fixture(scope="session")
def containers() -> None:
    """For tests that start what a container would have."""


SET_CLOCK = "libfaketime, to set a server's clock", has_set_clock
REDIS = "redis-server", has_redis
POSTGRES = "PostgreSQL", has_postgres
PROMETHEUS = "Prometheus, and its promtool", has_prometheus
PGBOUNCER = "PostgreSQL and pgbouncer", has_pgbouncer
FRONTS = "nginx and Caddy", has_fronts
USES_POSTGRES = POSTGRES, PGBOUNCER
NEEDS = {
    "small_disk": ("root, to mount a disk of their own", lambda: os.geteuid() == 0),
    "loop_disk": (
        "root and mkfs.ext4, for a disk of their own",
        lambda: os.geteuid() == 0 and shutil.which("mkfs.ext4"),
    ),
    "watched_disk": ("Linux and gcc, to watch a disk", lambda: sys.platform == "linux" and shutil.which("gcc")),
    "chaos": ("Linux, gcc and redis-server", lambda: sys.platform == "linux" and shutil.which("gcc") and has_redis()),
    "wall_clock": SET_CLOCK,
    "other_user": ("root and setpriv, for another user's files", lambda: os.geteuid() == 0 and shutil.which("setpriv")),
    "containers": ("root, to make namespaces and mount in them", has_containers),
    "far_machine": ("root and iproute2, for a network namespace", has_namespaces),
    "own_machine": ("root, iproute2 and systemd, for a machine of their own", has_machines),
    "fronted": FRONTS,
    "start_front": FRONTS,
    "redis_server": REDIS,
    "redis_store": REDIS,
    "cluster_store": REDIS,
    "sentinel_store": REDIS,
    "start_redis": REDIS,
    "cluster": REDIS,
    "sentinel": REDIS,
    "start_haproxy": ("haproxy", has_haproxy),
    "start_prometheus": PROMETHEUS,
    "promtool_there": PROMETHEUS,
    "valkey": SET_CLOCK,
    "postgres_server": POSTGRES,
    "own_postgres": POSTGRES,
    "postgres_database": POSTGRES,
    "postgres_storage": POSTGRES,
    "pgbouncer_database": PGBOUNCER,
    "pgbouncer": PGBOUNCER,
    "valkey_store": SET_CLOCK,
}
"""What fixtures need that not every machine has, and whether this one has it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what counts for a proof. Leaves out what can't run here, and says so; where everything is required, those
    tests run and fail."""
    for item in items:
        if isinstance(item, pytest.Function) and "proof" in item.fixturenames:
            item.add_marker("proof")
        if isinstance(item, pytest.Function) and any(NEEDS.get(name) in USES_POSTGRES for name in _fixtures(item)):
            item.add_marker("postgres")
    leave_out_missing_programs(config, items)
    if os.environ.get("WEIGHBRIDGE_TESTS_REQUIRE") == "all":
        return
    for fixture, (what, there) in NEEDS.items():
        left_out = [item for item in items if isinstance(item, pytest.Function) and fixture in _fixtures(item)]
        if left_out and not there():
            leave_out(config, items, left_out, what)


def _fixtures(item: pytest.Function) -> list[str]:
    """What a test uses, also where a parameter says which."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return [*item.fixturenames, *(name for name in parameters if isinstance(name, str))]


def leave_out_missing_programs(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Also where everything is required: a guide is followed where its language is, and not every machine has each."""
    named = {name for item in items for mark in item.iter_markers("programs") for name in mark.args}
    for program in sorted(name for name in named if shutil.which(name) is None):
        left_out = [item for item in items if any(program in mark.args for mark in item.iter_markers("programs"))]
        leave_out(config, items, left_out, f"{program}, which isn't on this machine")


def leave_out(config: pytest.Config, items: list[pytest.Item], left_out: Sequence[pytest.Item], need: str) -> None:
    """Takes tests from those that are run, and says so."""
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    print(f"\nleft out: {len(left_out)} tests that need {need}")
