"""PostgreSQL as doctor finds it: away, too old, a standby, of another schema, without rights, its clock wrong."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from proxy.billing import partitions, shipping
from proxy.billing.ledger_reading import file_id_of, reading
from proxy.billing.periods import Days
from proxy.billing.shipping import Place
from proxy.cli.doctor import postgres_server
from proxy.cli.doctor.findings import Finding, Verdict
from proxy.cli.doctor.postgres_server import RIGHTS, check_postgres
from proxy.clock import unix_us
from proxy.config.schema import Storage
from proxy.control.shipper import MONTHS_AHEAD, ship_folder
from proxy.store.database import Database, StoreError, open_database
from proxy.tenants import disabled_upstreams, projects
from tests.billing.shipped import calls, put, records_in, records_of
from tests.contracts import test_database as contract
from tests.pages import chapter_of
from tests.postgres_servers import PASSWORD, ROLE, SUPERUSER, PostgresDatabase, PostgresServer, running_pgbouncer
from tests.store.test_schema import of_a_newer_program
from tests.store.test_tables import database_of_version


def look(storage: Storage, ahead_s: float = 0) -> list[Finding]:
    return list(check_postgres(storage, lambda: time.time() + ahead_s))


def problems(found: list[Finding]) -> list[str]:
    return [finding.what for finding in found if finding.verdict is Verdict.PROBLEM]


def test_as_it_should_be(ready_postgres: PostgresDatabase) -> None:
    found = look(ready_postgres.storage())
    assert {finding.verdict for finding in found} == {Verdict.OK}
    assert any("PostgreSQL 1" in finding.what for finding in found)
    assert not any("pooler" in finding.what for finding in found)


def test_before_the_first_upgrade_and_of_an_older_version_it_says_how_to_upgrade(postgres: PostgresDatabase) -> None:
    assert problems(look(postgres.storage())) == ["it has no tables of Weighbridge yet"]
    database_of_version("0001", postgres.storage())
    (found,) = (finding for finding in look(postgres.storage()) if finding.verdict is Verdict.PROBLEM)
    assert found.what.startswith("its schema is 0001")
    assert "weighbridge db upgrade" in found.do


def test_a_newer_schema_is_fine_where_this_program_works_with_it(ready_postgres: PostgresDatabase) -> None:
    database = open_database(ready_postgres.storage())
    of_a_newer_program(database, "0004")
    assert {finding.verdict for finding in look(ready_postgres.storage())} == {Verdict.OK, Verdict.WARNING}
    of_a_newer_program(database, "9999")
    assert "written by a newer version" in problems(look(ready_postgres.storage()))[0]


def test_a_server_that_is_too_old_is_told(ready_postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_server, "OLDEST_SERVER", 99)
    assert "PostgreSQL" in problems(look(ready_postgres.storage()))[0]


def test_rights_that_serving_takes_and_the_user_lacks_are_named(ready_postgres: PostgresDatabase) -> None:
    with ready_postgres.client(SUPERUSER) as superuser:
        superuser.execute(f"ALTER TABLE keys OWNER TO {SUPERUSER}")
        superuser.execute(f"REVOKE ALL ON keys FROM {ROLE}; GRANT SELECT ON keys TO {ROLE}")
        superuser.execute(f"ALTER TABLE audit_events OWNER TO {SUPERUSER}")
        superuser.execute(f"GRANT SELECT, INSERT ON audit_events TO {ROLE}")
    (found,) = (finding for finding in look(ready_postgres.storage()) if finding.verdict is Verdict.PROBLEM)
    assert found.what == "its user may not INSERT keys, UPDATE keys, USE audit_events_id_seq"
    assert "docs/postgresql.md" in found.do


def test_the_rights_that_the_docs_have_an_operator_grant_are_enough_to_serve(
    ready_postgres: PostgresDatabase, tmp_path: Path
) -> None:
    """And none of them is one too many: a user that owns nothing writes, ships what the owner made partitions for, and
    is found fit."""
    (grants,) = re.findall(r"```sql\n(.*?)```", chapter_of("docs/postgresql.md", "Rights"), re.DOTALL)
    with ready_postgres.client(SUPERUSER) as superuser:
        superuser.execute(f'REVOKE ALL ON DATABASE "{ready_postgres.name}" FROM PUBLIC')
        superuser.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        superuser.execute(f"GRANT ALL ON SCHEMA public TO {ROLE}")  # before version 15 it isn't the database's owner's
        superuser.execute(f"DROP ROLE IF EXISTS node; CREATE ROLE node LOGIN PASSWORD '{PASSWORD}'")
        superuser.execute(grants.replace("DATABASE weighbridge", f'DATABASE "{ready_postgres.name}"'))
    try:
        storage = ready_postgres.storage(database_url=ready_postgres.url.replace(f"{ROLE}@", "node@"))
        assert problems(look(storage)) == []
        (told,) = (finding for finding in look(storage) if finding.verdict is Verdict.WARNING)
        assert "can't make partitions" in told.what
        assert ROLE in told.do
        database = open_database(storage)
        _ships(ready_postgres, database, tmp_path)
        contract.test_credits_at_once_are_all_credited(database)
        contract.test_an_event_that_several_find_at_once_is_noted_by_one_and_claimed_by_one(database)
        contract.test_uses_of_many_keys_that_several_write_at_once_are_the_newest(database)
        disabled_upstreams.disable(database, "up", 5, actor="t")
        assert disabled_upstreams.enable(database, "up", 6, actor="t")
        with pytest.raises(StoreError, match="permission denied for table audit_events"):  # noqa: SIM117
            with database.noting() as connection:
                connection.execute(text("DELETE FROM audit_events"))
    finally:
        with ready_postgres.client(SUPERUSER) as superuser:
            superuser.execute("DROP OWNED BY node")


def test_rights_are_looked_at_of_every_table_that_there_is(ready_postgres: PostgresDatabase) -> None:
    """So that the next migration's table isn't forgotten, here and in the docs."""
    with ready_postgres.client() as client:
        there = client.execute(
            "SELECT relname FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition"
        )
        assert {name for (name,) in there} == set(RIGHTS)


def _ships(postgres: PostgresDatabase, database: Database, data_dir: Path) -> None:
    """Records, their sums and the cursor, into partitions that the owner has made."""
    records = calls(range(4))
    wanted = {partitions.partition_of(one.started_at) for one in records}
    partitions.make(open_database(postgres.storage()), wanted.union(partitions.ahead(unix_us(), MONTHS_AHEAD)))
    path = put(data_dir, *records)
    ship_folder(database, data_dir, unix_us, Days("UTC").name)
    assert records_in(database) == records_of(path)


def test_projects_that_were_left_behind_in_sqlite_are_told(ready_postgres: PostgresDatabase, tmp_path: Path) -> None:
    storage = ready_postgres.storage(data_dir=tmp_path)
    before = open_database(Storage(data_dir=tmp_path))
    assert problems(look(storage)) == []
    projects.create(before, "acme", 1, actor="t")
    (found,) = (finding for finding in look(storage) if finding.verdict is Verdict.PROBLEM)
    assert "weighbridge.db has 1: their keys are refused" in found.what
    assert "weighbridge store move" in found.do
    projects.create(open_database(storage), "zeta", 1, actor="t")
    assert problems(look(storage)) == []


def test_nodes_that_have_no_redis_in_common_are_told_that_each_counts_alone(
    ready_postgres: PostgresDatabase, tmp_path: Path
) -> None:
    storage = ready_postgres.storage(data_dir=tmp_path)
    put(tmp_path, *calls(range(1)))
    with reading(tmp_path / "ledger" / "0.db") as connection:
        ours = file_id_of(connection)
    look_at = open_database(storage)
    shipping.look(look_at, {ours: Place("here", "0")}, [ours])
    assert not any("Redis" in finding.do for finding in look(storage))
    shipping.look(look_at, {"theirs": Place("there", "0")}, ["theirs"])
    (found,) = (finding for finding in look(storage) if finding.verdict is Verdict.WARNING)
    assert "counts limits and budgets by itself" in found.what
    assert "give all nodes the same Redis" in found.do
    with_redis = ready_postgres.storage(data_dir=tmp_path, redis_url="redis://127.0.0.1:1")
    assert {finding.verdict for finding in look(with_redis)} == {Verdict.OK}


def test_a_database_that_nobody_can_follow_is_told(ready_postgres: PostgresDatabase) -> None:
    with open_database(ready_postgres.storage()).noting() as connection:
        connection.execute(text("DELETE FROM revision"))
    assert "a key was revoked" in problems(look(ready_postgres.storage()))[0]


def test_a_clock_that_is_off_is_told(ready_postgres: PostgresDatabase) -> None:
    off = [finding for finding in look(ready_postgres.storage(), 20) if "clock" in finding.what]
    assert [(each.verdict, "20 s behind" in each.what) for each in off] == [(Verdict.WARNING, True)]
    assert any("ahead of" in what for what in problems(look(ready_postgres.storage(), -300)))


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
def test_a_pooler_is_told_and_its_mode(
    mode: str, ready_postgres: PostgresDatabase, postgres_server: PostgresServer, pgbouncer: int
) -> None:
    with running_pgbouncer(postgres_server, mode) as port:
        found = look(replace(ready_postgres, port=port).storage())
    if mode == "statement":
        assert "pool_mode to transaction" in next(each.do for each in found if each.verdict is Verdict.PROBLEM)
    else:
        assert [each.verdict for each in found if f"pooler, in {mode} mode" in each.what] == [Verdict.OK]


def test_where_nobody_is_reached_it_says_what_to_do_and_no_password(ready_postgres: PostgresDatabase) -> None:
    for storage, said in (
        (Storage(database_url="postgresql://a@127.0.0.1:1/b"), "does it run"),
        (ready_postgres.storage(database_password=SecretStr("geheim")), "database_password_env"),
        (Storage(database_url=ready_postgres.url), "database_password_env"),
        (replace(ready_postgres, name="gone").storage(), "make that database"),
        (ready_postgres.storage(database_url=f"{ready_postgres.url}?sslmode=require"), "sslmode"),
        (Storage(database_url=ready_postgres.url, database_password_env="UNSET"), "PostgreSQL's"),
    ):
        (found,) = look(storage)
        assert (found.verdict, said in found.do + found.what) == (Verdict.PROBLEM, True), found
        assert PASSWORD not in str(found)
        assert "geheim" not in str(found)
