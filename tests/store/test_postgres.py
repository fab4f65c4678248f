"""PostgreSQL as it is connected to: over TLS, across forks, without a session's state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.store.database import StoreError, open_database, upgrade
from tests.certificates import make_certificate
from tests.postgres_servers import PASSWORD, PostgresDatabase, give, postgres_folder, running_postgres


def test_a_fork_shares_no_connection_with_its_parent(postgres: PostgresDatabase) -> None:
    """Both ask at once: on one connection, each would read the other's answers."""
    code = """
import os, sys
from proxy.config.schema import Storage
from proxy.store.database import open_database
database = open_database(Storage(database_url=sys.argv[1], database_password=os.environ["DATABASE_PASSWORD"]))

def ask(number):
    with database.reading() as connection:
        return connection.exec_driver_sql(f"SELECT {number}, pg_backend_pid()").one()

mine = ask(0)[1]
child = os.fork()
for number in range(200):
    assert ask(number)[0] == number
    assert (ask(number)[1] == mine) == bool(child)
if child:
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    upgrade(postgres.storage())
    command, environment = [sys.executable, "-c", code, postgres.url], {**os.environ, "DATABASE_PASSWORD": PASSWORD}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_nothing_is_left_in_a_session(postgres: PostgresDatabase) -> None:
    """Behind a pooler, another client would find it."""
    upgrade(postgres.storage())
    database = open_database(postgres.storage())
    for _ in range(10):  # psycopg prepares what it is asked five times, by default
        with database.noting(limit_s=3) as connection:
            connection.exec_driver_sql("SELECT 1")
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "0"


def test_a_read_costs_one_connection_however_often_it_is_done(postgres: PostgresDatabase) -> None:
    upgrade(postgres.storage())
    database = open_database(postgres.storage())
    seen = set()
    for _ in range(5):
        with database.reading() as connection:
            seen.add(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
    assert len(seen) == 1


@pytest.fixture(scope="module")
def encrypted() -> Iterator[tuple[PostgresDatabase, Path]]:
    """A database whose server speaks TLS, and the authority that its certificate is from."""
    with postgres_folder() as folder:
        authority = make_certificate(folder, "authority")
        certificate = make_certificate(folder, "127.0.0.1", issuer=authority)
        give(certificate.path)
        files = {"ssl_cert_file": str(certificate.path), "ssl_key_file": str(certificate.path)}
        with running_postgres(settings={"ssl": "on", **files}) as server:
            made = server.database()
            upgrade(made.storage())
            yield made, authority.path


def test_over_tls_the_server_is_known_by_its_certificate(
    encrypted: tuple[PostgresDatabase, Path], tmp_path: Path
) -> None:
    database, authority = encrypted
    asked = f"{database.url}?sslmode=verify-full&sslrootcert="
    with open_database(database.storage(database_url=f"{asked}{authority}")).reading() as connection:
        assert connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar() is True
    other = make_certificate(tmp_path, "another")
    with pytest.raises(StoreError, match=r"certificate verify failed; its certificate isn't trusted") as caught:
        open_database(database.storage(database_url=f"{asked}{other.path}"))
    assert PASSWORD not in str(caught.value)
    with pytest.raises(StoreError, match=r"its certificate isn't trusted, or is another host's"):
        open_database(database.storage(database_url=f"{asked}{authority}".replace("127.0.0.1", "localhost")))
