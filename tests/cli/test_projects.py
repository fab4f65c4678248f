"""`weighbridge project`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
        (("enable", "zzz"), "error: there is no project 'zzz'"),
        (("create", "bob", "--limit", "rps=5"), "error: 'rps=5': 'rps' is no kind of limit"),
        (("create", "bob", "--models", "é"), "error: model 'é' is no model's id and no glob"),
        (("update", "alice"), "error: nothing to change is named"),
        (("update", "alice", "--rpm", "-1"), "error: rpm='-1': write a whole number"),
        (("update", "zzz", "--rpm", "1"), "error: there is no project 'zzz'"),
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


def limits(weighbridge: Weighbridge, name: str = "alice") -> list[str]:
    return list(json.loads(weighbridge("project", "show", name, "--json").stdout)["limits"])


def test_a_project_is_made_with_limits_and_models(weighbridge: Weighbridge) -> None:
    flags = ("--rpm", "1", "--tpm", "2", "--rpd", "3", "--ipm", "4", "--concurrency", "5")
    more = (
        "--limit",
        "ipm=5,model=*-image*",
        "--limit",
        "tpm=7,shadow",
        "--models",
        "gemini-*",
        "--models",
        "imagen-*",
    )
    made = json.loads(weighbridge("project", "create", "alice", *flags, *more, "--json").stdout)
    assert made["models"] == ["gemini-*", "imagen-*"]
    assert made["limits"] == limits(weighbridge)
    assert made["limits"] == [
        *("rpm=1", "tpm=2", "tpm=7,shadow", "rpd=3", "ipm=4", "ipm=5,model=*-image*", "concurrency=5"),
    ]


def test_a_new_project_gets_the_default_limits_unless_told_otherwise(
    weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_LIMITS__DEFAULTS", "rpm=60;ipm=5,model=*-image*;tpm=9")
    weighbridge("project", "create", "alice")
    assert limits(weighbridge) == ["rpm=60", "tpm=9", "ipm=5,model=*-image*"]
    weighbridge("project", "create", "bob", "--rpm", "90", "--tpm", "none", "--limit", "rpd=1")
    assert limits(weighbridge, "bob") == ["rpm=90", "rpd=1", "ipm=5,model=*-image*"]
    monkeypatch.setenv("WEIGHBRIDGE_LIMITS__DEFAULTS", "rpm=1")
    assert limits(weighbridge) == ["rpm=60", "tpm=9", "ipm=5,model=*-image*"], "a project that is there keeps its own"


def test_an_update_changes_what_is_named_and_shows_what_holds_now(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice", "--rpm", "60", "--tpm", "9", "--models", "gemini-*")
    stdout = weighbridge("project", "update", "alice", "--rpm", "90", "--tpm", "none").stdout
    assert stdout.splitlines()[1:] == ["limits: rpm=90", "models: gemini-*"]
    stdout = weighbridge("project", "update", "alice", "--models", "*", "--limit", "rpm=none").stdout
    assert stdout.splitlines()[1:] == ["limits: none", "models: all"]


def test_help_shows_globs_with_their_asterisks(weighbridge: Weighbridge) -> None:
    """Help is Markdown, in which a pair of them makes what is between stand out."""
    for command in (("project", "update"), ("key", "create")):
        told = weighbridge(*command, "--help").stdout
        assert ("gemini-*;" in told, "'*' is all" in told, "gemini-3-pro-*" in told) == (True, True, True)


def test_an_update_that_changes_nothing_says_so(weighbridge: Weighbridge) -> None:
    """Such as taking away a limit whose models were mistyped: the one that was meant is still in force."""
    weighbridge("project", "create", "alice", "--limit", "rpm=5,model=gemini-3*")
    stdout = weighbridge("project", "update", "alice", "--limit", "rpm=none,model=gemini-4*").stdout
    assert stdout.splitlines()[:2] == ["Project alice is as it was before.", "limits: rpm=5,model=gemini-3*"]
    stdout = weighbridge("project", "update", "alice", "--limit", "rpm=none,model=gemini-3*").stdout
    assert stdout.splitlines()[:2] == ["Project alice is changed.", "limits: none"]


def test_a_disabled_project_can_be_enabled_again(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    weighbridge("project", "disable", "alice")
    assert "in service" in weighbridge("project", "enable", "alice").stdout
    assert json.loads(weighbridge("project", "enable", "alice", "--json").stdout)["disabled_at"] is None
    assert weighbridge("project", "show", "alice").stdout.startswith("alice: in service, created at 20")


def test_a_list_of_projects_fits_a_hundred_columns_however_many_limits_there_are(weighbridge: Weighbridge) -> None:
    many = [word for number in range(20) for word in ("--limit", f"rpm={number},model=m{number}")]
    weighbridge("project", "create", "marketing", *many)
    weighbridge("project", "disable", "marketing")
    for command in ("list", "show"):
        stdout = weighbridge("project", command, *(() if command == "list" else ("marketing",))).stdout
        assert max(map(len, stdout.splitlines())) <= 100
        assert ("rpm=19,model=m19" in stdout) == (command == "show")
    assert weighbridge("project", "list").stdout.splitlines()[1].endswith("rpm=0,model=m0; rpm=1,model=m1; …")
