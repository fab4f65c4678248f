"""Projects are made once, under names that can stand anywhere, and disabled for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.store.database import Database, open_database
from proxy.tenants import projects
from proxy.tenants.projects import BadNameError, Project, ProjectExistsError, UnknownProjectError


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(tmp_path)


def test_a_project_that_was_made_is_listed_and_shown(database: Database) -> None:
    bob, alice = projects.create(database, "bob", 5), projects.create(database, "alice", 6)
    assert projects.list_projects(database) == [alice, bob] == [Project("alice", 6, None), Project("bob", 5, None)]
    assert projects.show(database, "bob") == bob


def test_a_name_is_taken_once(database: Database) -> None:
    projects.create(database, "alice", 5)
    with pytest.raises(ProjectExistsError, match="'alice' exists already"):
        projects.create(database, "alice", 6)
    assert projects.show(database, "alice").created_at == 5


@pytest.mark.parametrize("name", ["a", "0", "team-7_x", "a" * 63])
def test_a_name_of_lower_case_letters_digits_and_dashes_is_taken(database: Database, name: str) -> None:
    assert projects.create(database, name, 5).name == name


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a b", "a/b", "é", "a" * 64, "a\n", "٣"])
def test_any_other_name_is_refused_with_the_rule(database: Database, name: str) -> None:
    with pytest.raises(BadNameError, match="1 to 63 lower-case letters"):
        projects.create(database, name, 5)


def test_an_unknown_project_is_told_with_the_nearest_one(database: Database) -> None:
    projects.create(database, "alice", 5)
    with pytest.raises(UnknownProjectError, match="no project 'alcie'; did you mean 'alice'"):
        projects.show(database, "alcie")
    with pytest.raises(UnknownProjectError, match="no project 'zzz'; `weighbridge project list`"):
        projects.disable(database, "zzz", 6)


def test_a_project_disabled_twice_keeps_the_first_time(database: Database) -> None:
    projects.create(database, "alice", 5)
    assert projects.disable(database, "alice", 6).disabled_at == 6
    assert projects.disable(database, "alice", 7).disabled_at == 6
    assert projects.show(database, "alice").disabled_at == 6
