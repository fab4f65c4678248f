"""The database copied: from SQLite into real PostgreSQL, every row as it is, or none."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, text, update

from proxy.config.schema import Storage
from proxy.store import copying
from proxy.store.copying import TABLES, CopyDiffers, TargetTaken
from proxy.store.database import Database, StoreError, open_database
from proxy.store.tables import events, key_uses, projects, revision
from proxy.tenants import audit, disabled_upstreams
from proxy.tenants import keys as tenants_keys
from proxy.tenants import projects as tenants
from tests.billing.sample import NOON


def create_project(database: Database, name: str) -> None:
    tenants.create(database, name, NOON, actor="cli:Zoë 🎈")


@pytest.fixture
def source(tmp_path: Path) -> Database:
    """A row and more in every table: texts of every kind, absent values, more events than one insert takes."""
    database = open_database(Storage(data_dir=tmp_path / "from"))
    for name in ("red", "blue"):
        create_project(database, name)
    made = [tenants_keys.create(database, "red", f"key {n}", NOON, secrets.randbelow, actor="t")[0] for n in range(3)]
    tenants_keys.revoke(database, made[0].id, NOON + 20, actor="test")
    disabled_upstreams.disable(database, "google-2", NOON, actor="test")
    event = {"type": "t", "created_at": NOON, "body": '{"of": "é"}'}
    with database.noting() as connection:
        connection.execute(insert(key_uses).values(key_id=made[1].id, last_used_at=NOON + 2**40))
        connection.execute(insert(events), [{"id": f"e{n}", "once": f"o{n}", **event} for n in range(1_203)])
    return database


def active(database: Database) -> str:
    """The id of a key that isn't revoked."""
    return next(key.id for key in tenants_keys.list_keys(database) if key.revoked_at is None)


def test_every_row_of_every_table_is_in_the_target_as_it_was(source: Database, postgres_database: Database) -> None:
    assert copying.copy(source, postgres_database)
    told = copying.told(source)
    assert copying.told(postgres_database) == told
    assert [name for name, of in told.items() if not of.rows] == []
    assert told.keys() == {table.name for table in TABLES}
    assert tenants_keys.list_keys(postgres_database) == tenants_keys.list_keys(source)


def test_ids_that_are_counted_go_on_behind_those_copied(source: Database, postgres_database: Database) -> None:
    copying.copy(source, postgres_database)
    last = audit.list_events(source, limit=1)[0].id
    create_project(postgres_database, "green")
    assert audit.list_events(postgres_database, limit=1)[0].id == last + 1


def test_whoever_caches_keys_of_the_target_sees_a_change(source: Database, postgres_database: Database) -> None:
    def number() -> int:
        with postgres_database.reading() as connection:
            return int(connection.execute(revision.select()).one().number)

    before = number()
    copying.copy(source, postgres_database)
    assert number() == before + 1


def test_a_copy_that_is_there_is_left_alone_also_when_it_has_gone_on(
    source: Database, postgres_database: Database
) -> None:
    """What was revoked in the target since stays revoked, and what it has besides stays."""
    copying.copy(source, postgres_database)
    create_project(postgres_database, "green")
    tenants_keys.revoke(postgres_database, active(source), NOON + 99, actor="test")
    told = copying.told(postgres_database)
    assert not copying.copy(source, postgres_database)
    assert copying.told(postgres_database) == told


def test_a_source_that_changed_after_it_was_copied_is_refused(source: Database, postgres_database: Database) -> None:
    """Else a key that was revoked in the source would go on working."""
    copying.copy(source, postgres_database)
    tenants_keys.revoke(source, active(source), NOON + 99, actor="test")
    with pytest.raises(TargetTaken, match="lacks 1 of 8 audit events of the source"):
        copying.copy(source, postgres_database)


@pytest.mark.parametrize("name", ["red", "green"])
def test_a_target_with_projects_of_its_own_is_refused(source: Database, postgres_database: Database, name: str) -> None:
    """Also one of the same name: it is another's."""
    tenants.create(postgres_database, name, NOON + 1, actor="test")
    told = copying.told(postgres_database)
    with pytest.raises(TargetTaken, match=r"it isn't empty .* lacks 2 of 2 projects and 3 of 3 keys"):
        copying.copy(source, postgres_database)
    assert copying.told(postgres_database) == told


def test_an_empty_source_is_never_taken_for_what_is_in_the_target(tmp_path: Path, postgres_database: Database) -> None:
    create_project(postgres_database, "green")
    with pytest.raises(TargetTaken, match="the source has no projects"):
        copying.copy(open_database(Storage(data_dir=tmp_path)), postgres_database)


def test_a_copy_that_is_refused_in_the_midst_leaves_nothing(source: Database, postgres_database: Database) -> None:
    """The last of the tables is full already: what stands in the way of one row takes all back."""
    with source.noting() as connection:  # SQLite heeds no length, PostgreSQL does
        connection.execute(update(events).where(events.c.id == "e1202").values(last_answer="x" * 256))
    with pytest.raises(StoreError, match="too long"):
        copying.copy(source, postgres_database)
    assert {name: of.rows for name, of in copying.told(postgres_database).items() if of.rows} == {}


def test_what_is_read_back_otherwise_than_it_was_written_is_not_kept(
    source: Database, postgres_database: Database
) -> None:
    with postgres_database.noting() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN NEW.revoked_at := NULL; RETURN NEW; END $$"
            )
        )
        connection.execute(text("CREATE TRIGGER spoil BEFORE INSERT ON keys FOR EACH ROW EXECUTE FUNCTION spoil()"))
    with pytest.raises(CopyDiffers, match="keys can't be read back as it was written"):
        copying.copy(source, postgres_database)
    assert {name: of.rows for name, of in copying.told(postgres_database).items() if of.rows} == {}


@pytest.mark.parametrize("change", [update(projects).values(limits='["rpm 1"]'), delete(key_uses)])
def test_one_value_that_differs_shows(source: Database, postgres_database: Database, change: object) -> None:
    copying.copy(source, postgres_database)
    with postgres_database.noting() as connection:
        connection.execute(change)  # type: ignore[call-overload]
    before, after = copying.told(source), copying.told(postgres_database)
    assert len([name for name in before if before[name] != after[name]]) == 1
