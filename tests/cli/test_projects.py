"""`weighbridge project`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Weighbridge


def test_a_project_is_made_and_the_next_step_told(weighbridge: Weighbridge) -> None:
    result = weighbridge("project", "create", "alice")
    assert result.exit_code == 0
    assert "weighbridge key create alice" in result.stdout


def test_projects_are_listed_for_people_and_for_programs(weighbridge: Weighbridge) -> None:
    for name in ("bob", "alice"):
        weighbridge("project", "create", name)
    weighbridge("project", "disable", "bob")
    lines = weighbridge("project", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["PROJECT", "alice", "bob"]
    alice, bob = json.loads(weighbridge("project", "list", "--json").stdout)
    assert (alice["name"], alice["disabled_at"]) == ("alice", None)
    assert bob["disabled_at"].endswith("Z")


def test_an_empty_list_says_which_database_it_is_of_and_what_to_do(weighbridge: Weighbridge) -> None:
    stdout = weighbridge("project", "list").stdout
    assert "weighbridge-data/weighbridge.db" in stdout
    assert "weighbridge project create" in stdout
    assert weighbridge("project", "list", "--json").stdout == "[]\n"


def test_a_project_is_shown_with_its_keys(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    assert "no key yet" in weighbridge("project", "show", "alice").stdout
    key = json.loads(weighbridge("key", "create", "alice", "--json").stdout)
    assert key["id"] in weighbridge("project", "show", "alice").stdout
    shown = json.loads(weighbridge("project", "show", "alice", "--json").stdout)
    assert [entry["id"] for entry in shown["keys"]] == [key["id"]]
    assert key["key"] not in json.dumps(shown)


def test_a_disabled_project_says_so(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    assert json.loads(weighbridge("project", "disable", "alice", "--json").stdout)["disabled_at"]
    assert "alice: disabled at 20" in weighbridge("project", "show", "alice").stdout


def test_a_mistake_is_one_sentence_on_standard_error_and_ends_with_1(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    for arguments, sentence in (
        (("create", "alice"), "error: a project 'alice' exists already"),
        (("create", "Alice"), "error: 'Alice' can't be a project's name"),
        (("show", "alcie"), "error: there is no project 'alcie'; did you mean 'alice'?"),
        (("disable", "zzz", "--json"), "error: there is no project 'zzz'"),
    ):
        result = weighbridge("project", *arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith(sentence)


def test_each_command_reads_the_configuration_that_is_named(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[storage]\ndata_dir = "elsewhere"\n')
    weighbridge("project", "create", "alice", "--config", "other.toml")
    assert (tmp_path / "elsewhere" / "weighbridge.db").is_file()
    assert json.loads(weighbridge("project", "list", "--config", "other.toml", "--json").stdout)[0]["name"] == "alice"
    assert weighbridge("project", "show", "alice").exit_code == 1
