"""Projects are made once, under names that can stand anywhere; changed, disabled, enabled; each change is told."""

from __future__ import annotations

import secrets

import pytest

from proxy.config.limits import parse_all
from proxy.store.database import Database
from proxy.tenants import audit, projects
from proxy.tenants.key_format import mint
from proxy.tenants.projects import BadNameError, BadOptionError, Project, ProjectExistsError, UnknownProjectError


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_a_project_that_was_made_is_listed_and_shown(database: Database) -> None:
    bob, alice = projects.create(database, "bob", 5, actor="test"), projects.create(database, "alice", 6, actor="test")
    assert projects.list_projects(database) == [alice, bob] == [Project("alice", 6, None), Project("bob", 5, None)]
    assert projects.show(database, "bob") == bob


def test_a_name_is_taken_once(database: Database) -> None:
    projects.create(database, "alice", 5, actor="test")
    with pytest.raises(ProjectExistsError, match="'alice' exists already"):
        projects.create(database, "alice", 6, actor="test")
    assert projects.show(database, "alice").created_at == 5


@pytest.mark.parametrize("name", ["a", "0", "team-7_x", "a" * 63])
def test_a_name_of_lower_case_letters_digits_and_dashes_is_taken(database: Database, name: str) -> None:
    assert projects.create(database, name, 5, actor="test").name == name


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a b", "a/b", "é", "a" * 64, "a\n", "٣"])
def test_any_other_name_is_refused_with_the_rule(database: Database, name: str) -> None:
    with pytest.raises(BadNameError, match="1 to 63 lower-case letters"):
        projects.create(database, name, 5, actor="test")


def test_no_project_has_the_name_that_metrics_have_for_all_past_their_bound(database: Database) -> None:
    with pytest.raises(BadNameError, match="choose another name"):
        projects.create(database, "other", 5, actor="test")


def test_an_unknown_project_is_told_with_the_nearest_one(database: Database) -> None:
    projects.create(database, "alice", 5, actor="test")
    with pytest.raises(UnknownProjectError, match="no project 'alcie'; did you mean 'alice'"):
        projects.show(database, "alcie")
    with pytest.raises(UnknownProjectError, match="no project 'zzz'; `weighbridge project list`"):
        projects.disable(database, "zzz", 6, actor="test")


def test_a_credit_adds_to_what_may_be_spent_in_all(database: Database) -> None:
    """And to no other budget; its event says how much it was."""
    limits = parse_all(["rpm=1", "usd=5,per=month", "usd=3,per=total,model=*-image"])
    assert projects.prepaid(projects.create(database, "alice", 5, actor="test", limits=limits)) is None
    assert projects.prepaid(projects.credit(database, "alice", "2.50", 6, actor="test")) == 2_500_000_000
    project = projects.credit(database, "alice", "10", 7, actor="test")
    assert project.limits == (*limits[:-1], *parse_all(["usd=12.5,per=total"]), limits[-1])
    events = [event for event in audit.list_events(database, limit=9) if event.action == "project.credit"]
    assert sorted(str(event.changes["credit_usd"]["after"]) for event in events) == ["10", "2.50"]
    for bad, sentence in {"0": "adds nothing", "-5": "write USD", "9000000": "write USD", "none": "takes"}.items():
        with pytest.raises(BadOptionError, match=sentence):
            projects.credit(database, "alice", bad, 8, actor="test")
    assert projects.show(database, "alice") == project


def test_a_project_disabled_twice_keeps_the_first_time(database: Database) -> None:
    projects.create(database, "alice", 5, actor="test")
    assert projects.disable(database, "alice", 6, actor="test").disabled_at == 6
    assert projects.disable(database, "alice", 7, actor="test").disabled_at == 6
    assert projects.show(database, "alice").disabled_at == 6


def test_a_disabled_project_can_be_enabled_again(database: Database) -> None:
    alice = projects.create(database, "alice", 5, actor="test")
    projects.disable(database, "alice", 6, actor="test")
    assert projects.enable(database, "alice", 7, actor="test") == alice == projects.show(database, "alice")
    assert projects.disable(database, "alice", 8, actor="test").disabled_at == 8


def test_a_project_is_made_with_limits_and_models(database: Database) -> None:
    limits = parse_all(["rpm=60", "ipm=5,model=*-image*"])
    alice = projects.create(database, "alice", 5, actor="test", limits=limits, models=["gemini-*", "gemini-*"])
    assert projects.show(database, "alice") == alice == Project("alice", 5, None, limits, ("gemini-*",))


def test_an_update_changes_what_is_named_and_leaves_the_rest(database: Database) -> None:
    limits = parse_all(["rpm=60", "tpm=9", "ipm=5,model=*-image*"])
    projects.create(database, "alice", 5, actor="test", limits=limits, models=["gemini-*"])
    changed = projects.update(database, "alice", 6, actor="test", limits=["rpm=90", "tpm=none", "rpd=1,shadow"])
    assert [str(limit) for limit in changed.limits] == ["rpm=90", "rpd=1,shadow", "ipm=5,model=*-image*"]
    assert changed.models == ("gemini-*",)
    assert projects.update(database, "alice", 7, actor="test", models=["a", "*"]).models == ("*",)
    assert projects.show(database, "alice") == changed._replace(models=("*",))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"limits": ["rps=5"]}, "did you mean rpm"),
        ({"limits": ["rpm=5", "rpm=6"]}, "given twice"),
        ({"limits": [f"rpm=1,model=m{number}" for number in range(1000)]}, "1001 limits are too many"),
        ({"models": ["models/gemini-x"]}, "without models/"),
        ({"models": []}, "no model is named"),
        ({"limits": ["rpm=7"], "models": [""]}, "no model's id"),
    ],
)
def test_an_update_that_makes_no_sense_is_refused_whole(
    database: Database, options: dict[str, list[str]], sentence: str
) -> None:
    alice = projects.create(database, "alice", 5, actor="test", limits=parse_all(["rpm=60"]))
    with pytest.raises(BadOptionError, match=sentence):
        projects.update(database, "alice", 6, actor="test", **options)
    assert projects.show(database, "alice") == alice
    assert len(audit.list_events(database, limit=9)) == 1


def test_every_write_of_a_project_leaves_an_event_that_says_what_changed(database: Database) -> None:
    projects.create(database, "alice", 5, actor="ann", limits=parse_all(["rpm=60"]))
    projects.update(database, "alice", 6, actor="bob", limits=["rpm=90"])
    projects.update(database, "alice", 7, actor="bob", limits=["rpm=90"])  # changes nothing
    projects.disable(database, "alice", 8, actor="cid")
    projects.disable(database, "alice", 9, actor="cid")
    projects.enable(database, "alice", 10, actor="dan")
    events = audit.list_events(database, limit=9)[::-1]
    assert [(event.at, event.actor, event.action, event.project, event.key_id) for event in events] == [
        (5, "ann", "project.create", "alice", None),
        (6, "bob", "project.update", "alice", None),
        (8, "cid", "project.disable", "alice", None),
        (10, "dan", "project.enable", "alice", None),
    ]
    assert [event.changes for event in events] == [
        {"limits": {"before": None, "after": ["rpm=60"]}, "models": {"before": None, "after": ["*"]}},
        {"limits": {"before": ["rpm=60"], "after": ["rpm=90"]}},
        {"disabled_at": {"before": None, "after": 8}},
        {"disabled_at": {"before": 8, "after": None}},
    ]


def test_a_write_that_fails_leaves_no_event(database: Database) -> None:
    projects.create(database, "alice", 5, actor="test")
    with pytest.raises(ProjectExistsError):
        projects.create(database, "alice", 6, actor="test")
    assert len(audit.list_events(database, limit=9)) == 1


def test_a_key_given_as_a_project_is_not_repeated(database: Database) -> None:
    key = mint(secrets.randbelow)
    with pytest.raises(UnknownProjectError) as caught:
        projects.show(database, key)
    assert key not in str(caught.value)
    with pytest.raises(BadNameError) as bad:
        projects.create(database, key, 5, actor="test")
    assert key not in str(bad.value)
