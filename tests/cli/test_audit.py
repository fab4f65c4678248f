"""`weighbridge audit`, as typed."""

from __future__ import annotations

import json
import os
import pwd
import re

from tests.cli.conftest import Weighbridge

WHEN = r"20\d\d-\d\d-\d\d \d\d:\d\d UTC"


def test_every_change_is_told_with_who_when_and_what(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice", "--rpm", "60")
    key = json.loads(weighbridge("key", "create", "alice", "--name", "notebook", "--json").stdout)
    weighbridge("project", "update", "alice", "--rpm", "90", "--models", "gemini-*")
    weighbridge("key", "revoke", key["id"])
    stdout = weighbridge("audit", "list").stdout
    who = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    pattern = f"""\\
{WHEN}  {who}  key.revoke alice {key["id"]}
    revoked_at: {WHEN}
{WHEN}  {who}  project.update alice
    limits: rpm=60 → rpm=90
    models: \\* → gemini-\\*
{WHEN}  {who}  key.create alice {key["id"]}
    name: notebook
    models: \\*
{WHEN}  {who}  project.create alice
    limits: rpm=60
    models: \\*
"""
    assert re.fullmatch(pattern.removeprefix("\\\n"), stdout)
    assert key["key"] not in stdout
    assert key["masked"] not in stdout


def test_programs_get_the_same_as_json(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    weighbridge("project", "disable", "alice")
    disabled, created = json.loads(weighbridge("audit", "list", "--json").stdout)
    assert (disabled["id"], disabled["action"], disabled["key_id"]) == (2, "project.disable", None)
    assert disabled["changes"] == {"disabled_at": {"before": None, "after": disabled["at"]}}
    assert disabled["at"].endswith("Z")
    assert created["changes"]["models"] == {"before": None, "after": ["*"]}


def test_changes_are_told_page_by_page_of_a_project_or_from_a_time_on(weighbridge: Weighbridge) -> None:
    for name in ("alice", "bob", "cid"):
        weighbridge("project", "create", name)

    def named(*arguments: str) -> list[str]:
        return [event["project"] for event in json.loads(weighbridge("audit", "list", *arguments, "--json").stdout)]

    assert named() == ["cid", "bob", "alice"]
    assert named("--limit", "2") == ["cid", "bob"]
    assert named("--limit", "2", "--before", "2") == ["alice"]
    assert named("--project", "bob") == ["bob"]
    assert named("--since", "2020-01-01") == ["cid", "bob", "alice"]
    assert named("--since", "2999-01-01T12:00") == []

    def told(*arguments: str) -> str:
        return weighbridge("audit", "list", *arguments).stdout

    assert "weighbridge audit list --limit 2 --before 2\n" in told("--limit", "2")
    weighbridge("project", "disable", "bob")
    since = ("--since", "2020-01-01 00:00")
    assert "audit list --project bob --since '2020-01-01 00:00' --limit 1 --before 4\n" in told(
        "--project", "bob", *since, "--limit", "1"
    )
    assert "Older" not in told("--project", "bob", "--limit", "2"), "it has no more, though others have older ones"
    assert weighbridge("audit", "list", "--since", "2999-01-01").stdout == "No change is on record here.\n"


def test_a_mistake_is_one_sentence_on_standard_error_and_ends_with_1(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    for arguments, sentence in (
        (("--project", "alcie"), "error: there is no project 'alcie'; did you mean 'alice'?"),
        (("--since", "yesterday"), "error: 'yesterday' is no time"),
    ):
        result = weighbridge("audit", "list", *arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith(sentence)
