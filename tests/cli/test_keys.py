"""`weighbridge key`, as typed."""

from __future__ import annotations

import json
import re

import pytest

from proxy.tenants.keys import well_formed
from tests.cli.conftest import Weighbridge


@pytest.fixture(autouse=True)
def _project(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")


def test_a_key_is_shown_once_with_what_to_do_with_it(weighbridge: Weighbridge) -> None:
    stdout = weighbridge("key", "create", "alice", "--name", "notebook").stdout
    key = stdout.splitlines()[0]
    assert well_formed(key)
    assert f"export GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:8080 GEMINI_API_KEY={key}" in stdout
    assert "shown this once" in stdout
    listed = weighbridge("key", "list").stdout + weighbridge("key", "list", "--json").stdout
    assert "notebook" in listed
    assert key not in listed


def test_the_base_url_told_is_the_one_configured(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_SERVER__PORT", "9999")
    assert "http://127.0.0.1:9999" in weighbridge("key", "create", "alice").stdout


def test_a_key_for_programs_is_four_fields_of_json(weighbridge: Weighbridge) -> None:
    made = json.loads(weighbridge("key", "create", "alice", "--json").stdout)
    assert list(made) == ["id", "key", "project", "name"]
    assert well_formed(made["key"])
    assert re.fullmatch(r"key_[0-9A-Za-z]{16}", made["id"])
    assert (made["project"], made["name"]) == ("alice", "default")


def test_keys_are_listed_by_project(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "bob")
    key = json.loads(weighbridge("key", "create", "bob", "--json").stdout)
    assert [entry["id"] for entry in json.loads(weighbridge("key", "list", "bob", "--json").stdout)] == [key["id"]]
    assert "weighbridge key create alice" in weighbridge("key", "list", "alice").stdout


def test_a_revoked_key_is_listed_as_such(weighbridge: Weighbridge) -> None:
    key = json.loads(weighbridge("key", "create", "alice", "--json").stdout)
    assert "is revoked" in weighbridge("key", "revoke", key["id"]).stdout
    assert json.loads(weighbridge("key", "revoke", key["id"], "--json").stdout)["revoked_at"]
    (listed,) = json.loads(weighbridge("key", "list", "--json").stdout)
    assert listed["revoked_at"].endswith("Z")


def test_a_mistake_is_one_sentence_on_standard_error_and_ends_with_1(weighbridge: Weighbridge) -> None:
    for arguments, sentence in (
        (("create", "alic"), "error: there is no project 'alic'; did you mean 'alice'?"),
        (("create", "alice", "--name", "\x1b[31m"), "error: '\\x1b[31m' can't be a key's name"),
        (("list", "alic"), "error: there is no project 'alic'"),
        (("revoke", "key_x"), "error: there is no key 'key_x'"),
    ):
        result = weighbridge("key", *arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith(sentence)


def test_a_key_given_in_place_of_its_id_is_not_repeated(weighbridge: Weighbridge) -> None:
    key = json.loads(weighbridge("key", "create", "alice", "--json").stdout)["key"]
    result = weighbridge("key", "revoke", key)
    assert result.exit_code == 1
    assert key not in result.output
