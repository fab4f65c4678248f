"""What errors of PostgreSQL say to whoever runs it, as real servers bring them about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from proxy.config.schema import Storage
from proxy.store.database import StoreError, open_database, upgrade
from proxy.store.postgres_advice import advice, explained
from proxy.tenants import projects
from tests.postgres_servers import PASSWORD, ROLE, SUPERUSER, PostgresDatabase

PASSWORD_ADVICE = "see storage.database_password_env or database_password_file"


def alter(statement: str) -> Callable[[PostgresDatabase], Storage]:
    def altered(database: PostgresDatabase) -> Storage:
        with database.client(SUPERUSER) as superuser:
            superuser.execute(statement.replace("THIS", f'"{database.name}"'))
        return database.storage()

    return altered


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda database: replace(database, port=1).storage(), "does it run where storage.database_url says"),
        (lambda database: replace(database, name="gone").storage(), "make that database"),
        (
            lambda database: database.storage(database_password="geheim"),
            PASSWORD_ADVICE,
        ),
        (
            lambda database: Storage(database_url=database.url),
            PASSWORD_ADVICE,
        ),
        (
            lambda database: database.storage(database_url=database.url.replace("127.0.0.1", "nowhere.invalid")),
            "no server is known by that name",
        ),
        (
            lambda database: database.storage(database_url=f"{database.url}?sslmode=require"),
            "one side wants TLS and the other doesn't",
        ),
        (alter(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0"), "raise max_connections, or put pgbouncer before it"),
        (alter(f"ALTER ROLE {ROLE} NOLOGIN"), "is not permitted to log in; let that user log in"),
        (alter(f"REVOKE ALL ON DATABASE THIS FROM PUBLIC, {ROLE}"), "grant the user CONNECT on that database"),
        (alter(f"REVOKE ALL ON projects, revision FROM {ROLE}"), "grant its user the rights that docs/postgresql.md"),
        (alter("ALTER DATABASE THIS SET default_transaction_read_only = on"), "it is a standby, or set to read-only"),
        (alter("DROP TABLE projects CASCADE"), "schema: `weighbridge db upgrade`"),
        (alter("DROP TABLE alembic_version"), "run `weighbridge db upgrade`"),
    ],
)
def test_what_goes_wrong_is_told_with_what_to_do(
    spoil: Callable[[PostgresDatabase], Storage], told: str, postgres: PostgresDatabase
) -> None:
    upgrade(postgres.storage())
    try:
        storage = spoil(postgres)
        with pytest.raises(StoreError) as caught:
            projects.create(open_database(storage), "a", 1, actor="test")
    finally:
        with replace(postgres, name="postgres").client(SUPERUSER) as superuser:
            superuser.execute(f"ALTER ROLE {ROLE} LOGIN CONNECTION LIMIT -1")
    said = str(caught.value)
    assert told in said
    assert said.startswith("postgresql://")
    assert "\n" not in said
    assert PASSWORD not in said
    assert "geheim" not in said


def test_what_nobody_foresaw_is_told_as_it_was_said_and_without_the_password() -> None:
    error = psycopg.OperationalError("connection failed: something with geheim in it\nand more")
    assert explained(error, "geheim") == "something with ********** in it; see what it says, and its own log"
    assert explained(ValueError()) == "ValueError; see what it says, and its own log"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("FATAL:  the database system is starting up", "it will be back by itself"),
        ("FATAL:  sorry, too many clients already", "raise max_connections"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "a", database "b", no encryption', "its pg_hba.conf"),
        ("ERROR:  query_wait_timeout", "pgbouncer has no connection free"),
        ("server closed the connection unexpectedly", "it was stopped, or broke off"),
        ("session is not read-write", "?target_session_attrs=read-write"),
    ],
)
def test_what_is_hard_to_bring_about_is_known_by_its_words(said: str, told: str) -> None:
    assert told in advice(psycopg.OperationalError(said))
