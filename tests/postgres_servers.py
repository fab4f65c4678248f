"""Real PostgreSQL servers for tests: a cluster of their own, fresh databases in it, and pgbouncer in front of one."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from proxy.config.schema import Storage
from tests.redis_servers import free_port

ROLE = "weighbridge"
"""Who owns the databases that `PostgresServer.database` makes: no superuser."""
PASSWORD = "pass/word?of:weighbridge@%41"
"""What has a meaning in a URL, and in a connection string."""
SUPERUSER = "postgres"
PATIENCE_S = 30.0
_numbers = itertools.count()


def binaries() -> Path | None:
    """The folder of initdb and postgres: WEIGHBRIDGE_POSTGRES_BIN, or Debian's newest, or where the path leads."""
    if named := os.environ.get("WEIGHBRIDGE_POSTGRES_BIN"):
        return Path(named)
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    there = newest or shutil.which("initdb")
    return Path(there).parent if there else None


def has_postgres() -> bool:
    """As root, it takes setpriv, too: PostgreSQL doesn't run as root."""
    return binaries() is not None and (os.geteuid() != 0 or shutil.which("setpriv") is not None)


def has_pgbouncer() -> bool:
    return has_postgres() and _pgbouncer() is not None


def _pgbouncer() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _user() -> pwd.struct_passwd:
    """Whom servers run as."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _as_user(*command: str) -> list[str]:
    if os.geteuid() != 0:
        return list(command)
    user = _user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", *command]


def give(path: Path) -> Path:
    """Gives a file or a folder to the user that servers run as, and to nobody else."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    if os.geteuid() == 0:
        os.chown(path, _user().pw_uid, _user().pw_gid)
    return path


@dataclass(frozen=True)
class PostgresDatabase:
    """A database, and where it is reached. `url` is as storage.database_url wants it: the password isn't in it."""

    name: str
    port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@{self.host}:{self.port}/{self.name}"

    def storage(self, **more: object) -> Storage:
        """As a configuration that names it has it."""
        return Storage.model_validate({"database_url": self.url, "database_password": PASSWORD, **more})

    def client(self, user: str = ROLE) -> psycopg.Connection:
        """A plain connection of the test's own, without transactions of its own: its owner's, or SUPERUSER's."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=self.name,
            user=user,
            password=PASSWORD,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=int(PATIENCE_S),
        )


@dataclass
class PostgresServer:
    """A cluster and its server. Loses nothing when it is killed; fsyncs only where `durable`."""

    folder: Path
    durable: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until it answers; the first time makes the cluster and the role."""
        new = not (self.folder / "data" / "PG_VERSION").exists()
        if new:
            self._make()
        with self._log.open("ab") as log:
            arguments = [f"--{name}={value}" for name, value in {**self._fixed(), **self.settings}.items()]
            command = _as_user(self._program("postgres"), "-D", str(self.folder / "data"), *arguments)
            # In a session of its own: Ctrl-C is the test run's.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        self._await()
        if new:
            with PostgresDatabase("postgres", self.port).client(SUPERUSER) as client:
                client.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(*_role()))

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Ends it: SIGQUIT at once and without a farewell, SIGINT in order, SIGTERM when the last client has left."""
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.process.send_signal(how)
            self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Ends every process of it in the midst of what it does."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(PATIENCE_S)

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def send(self, what: signal.Signals) -> None:
        """To every process of it: SIGSTOP and SIGCONT freeze it and let it go on."""
        assert self.process is not None
        pid = self.process.pid
        for process in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
            with suppress(ProcessLookupError):
                os.kill(process, what)

    def database(self, like: str = "template1") -> PostgresDatabase:
        """A new database, which ROLE owns: an empty one, or a copy of one that nobody is connected to."""
        made = PostgresDatabase(f"weighbridge_{next(_numbers)}", self.port)
        with PostgresDatabase("postgres", self.port).client(SUPERUSER) as client:
            names = map(psycopg.sql.Identifier, (made.name, ROLE, like))
            client.execute(psycopg.sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(*names))
        return made

    @contextmanager
    def lending(self, like: str = "template1") -> Iterator[PostgresDatabase]:
        """As `database`, and removes it at the end: each takes some 8 MB of the disk."""
        lent = self.database(like)
        yield lent
        with PostgresDatabase("postgres", self.port).client(SUPERUSER) as client:
            client.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(lent.name)))

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _program(self, name: str) -> str:
        folder = binaries()
        assert folder is not None, "PostgreSQL isn't installed"
        return str(folder / name)

    def _make(self) -> None:
        self.folder.mkdir(exist_ok=True, parents=True)
        give(self.folder)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        options = ("--auth=scram-sha-256", f"--pwfile={password}", f"--username={SUPERUSER}", "--encoding=UTF8")
        data = ("--locale=C", "--no-sync", "-D", str(self.folder / "data"))
        made = subprocess.run(
            _as_user(self._program("initdb"), *options, *data), capture_output=True, text=True, cwd="/", check=False
        )
        assert made.returncode == 0, made.stdout + made.stderr

    def _fixed(self) -> dict[str, str]:
        return {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self.durable else "off",
            "shared_buffers": "32MB",
            # A database is written whole into the log: little of that is kept.
            "max_wal_size": "64MB",
            "full_page_writes": "on" if self.durable else "off",
        }

    def _await(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                PostgresDatabase("postgres", self.port).client(SUPERUSER).close()
                return
            except psycopg.OperationalError:
                assert self.process is not None
                assert self.process.poll() is None, self._log.read_text()
                assert time.monotonic() < until, self._log.read_text()
                time.sleep(0.02)


def _role() -> tuple[psycopg.sql.Identifier, psycopg.sql.Literal]:
    return psycopg.sql.Identifier(ROLE), psycopg.sql.Literal(PASSWORD)


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """A folder that the servers' user can get to, which isn't so of pytest's; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="weighbridge-postgres-"))
    try:
        yield give(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres(**options: object) -> Iterator[PostgresServer]:
    """A server with a cluster of its own; stopped and removed at the end."""
    with ExitStack() as stack:
        server = PostgresServer(stack.enter_context(postgres_folder()), **options)  # type: ignore[arg-type]
        stack.callback(server.stop)
        server.start()
        yield server


@contextmanager
def running_pgbouncer(server: PostgresServer, mode: str = "transaction", connections: int = 3) -> Iterator[int]:
    """pgbouncer in front of all databases of a server, with so many connections to each; gives its port."""
    program = _pgbouncer()
    assert program is not None, "pgbouncer isn't installed"
    with postgres_folder() as folder:
        port, log = free_port(), folder / "log"
        (folder / "users").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users\n"
            f"pool_mode = {mode}\ndefault_pool_size = {connections}\nmax_client_conn = 500\nserver_login_retry = 1\n"
        )
        with log.open("ab") as out:
            command = _as_user(program, str(give(folder / "ini")))
            process = subprocess.Popen(command, stdout=out, stderr=out, cwd="/", start_new_session=True)
        try:
            _await_pgbouncer(process, port, log)
            yield port
        finally:
            process.kill()
            process.wait(PATIENCE_S)


def _await_pgbouncer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            PostgresDatabase("postgres", port).client().close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
