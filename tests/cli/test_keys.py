"""`weighbridge key`, as typed."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

import pytest

from proxy.tenants.key_format import well_formed
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


def test_a_key_for_programs_is_json_with_its_options(weighbridge: Weighbridge) -> None:
    made = json.loads(weighbridge("key", "create", "alice", "--json").stdout)
    assert list(made)[:4] == ["id", "key", "project", "name"]
    assert (made["expires_at"], made["limits"], made["models"], made["addresses"]) == (None, [], ["*"], [])
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
        (("rotate", "key_x"), "error: there is no key 'key_x'"),
        (("create", "alice", "--expires-in", "30x"), "error: '30x' is no duration"),
        (("create", "alice", "--expires-in", "0"), "error: a key expires after it is made"),
        (("create", "alice", "--models", "models/a"), "error: model 'models/a': write it without models/"),
        (("create", "alice", "--allow-ip", "10.0.0.1/8"), "error: '10.0.0.1/8' is an address within a network"),
        (("create", "alice", "--rpm", "many"), "error: rpm='many': write a whole number"),
        (("create", "alice", "--rpm", "1", "--limit", "rpm=2"), "error: 'rpm=2': this limit is given twice"),
        (("create", "alice", "--limit", "usd=100"), "error: 'usd=100': say for how long, as in usd=100,per=month"),
    ):
        result = weighbridge("key", *arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith(sentence)


@pytest.mark.parametrize("arguments", [("revoke",), ("rotate",), ("list",), ("create",), ("create", "alice", "--name")])
def test_a_key_given_in_the_wrong_place_is_not_repeated(weighbridge: Weighbridge, arguments: tuple[str, ...]) -> None:
    key = json.loads(weighbridge("key", "create", "alice", "--json").stdout)["key"]
    result = weighbridge("key", *arguments, key)
    assert result.exit_code == 1
    assert key not in result.output


OPTIONS = (
    *("--name", "notebook", "--expires-in", "30d", "--models", "gemini-*", "--models", "imagen-*"),
    *("--allow-ip", "10.0.0.0/8", "--allow-ip", "::1", "--rpm", "10", "--limit", "ipm=1,model=*-image*,shadow"),
)


def test_a_key_is_made_with_its_options_and_listed_with_them(weighbridge: Weighbridge) -> None:
    made = json.loads(weighbridge("key", "create", "alice", *OPTIONS, "--json").stdout)
    expected = {
        "models": ["gemini-*", "imagen-*"],
        "addresses": ["10.0.0.0/8", "::1/128"],
        "limits": ["rpm=10", "ipm=1,model=*-image*,shadow"],
        "state": "active",
        "last_used_at": None,
        "rotated_from": None,
    }
    assert expected.items() <= made.items()
    (listed,) = json.loads(weighbridge("key", "list", "--json").stdout)
    assert listed == {name: value for name, value in made.items() if name != "key"}
    created, expires = (datetime.fromisoformat(listed[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=30)


def test_people_read_what_a_key_may_do_below_the_list(weighbridge: Weighbridge) -> None:
    stdout = weighbridge("key", "create", "alice", *OPTIONS).stdout
    told = "limits rpm=10; ipm=1,model=*-image*,shadow | models gemini-*, imagen-* | from 10.0.0.0/8, ::1/128"
    assert told in " ".join(stdout.split())
    assert "It expires at 20" in stdout
    assert told in " ".join(weighbridge("key", "list").stdout.split())


def test_a_list_of_keys_fits_a_hundred_columns_and_tells_times_to_the_minute(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "marketing")
    for _ in range(2):
        weighbridge("key", "create", "marketing", *OPTIONS)
    key_id = json.loads(weighbridge("key", "list", "--json").stdout)[0]["id"]
    weighbridge("key", "revoke", key_id)
    for arguments in (("key", "list"), ("key", "list", "marketing"), ("project", "show", "marketing")):
        stdout = weighbridge(*arguments).stdout
        assert max(map(len, stdout.splitlines())) <= 100
        assert re.search(r"revoked \d{4}-\d\d-\d\d \d\d:\d\d  never", stdout)
        assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d +never", stdout)


def test_a_rotated_key_is_served_until_the_overlap_ends(weighbridge: Weighbridge) -> None:
    old = json.loads(weighbridge("key", "create", "alice", *OPTIONS, "--json").stdout)
    made = json.loads(weighbridge("key", "rotate", old["id"], "--overlap", "90m", "--json").stdout)
    assert well_formed(made["key"])
    assert made["key"] != old["key"]
    assert made["rotated_from"] == old["id"] == made["old"]["id"]
    same = ("project", "name", "models", "addresses", "limits", "expires_at")
    assert [made[name] for name in same] == [old[name] for name in same]
    ends, begins = (datetime.fromisoformat(text) for text in (made["old"]["expires_at"], made["created_at"]))
    assert ends - begins == timedelta(minutes=90)
    assert "key" not in made["old"]
    again = weighbridge("key", "rotate", old["id"])
    assert (again.exit_code, again.stdout) == (1, "")
    assert f"was rotated already, to {made['id']}" in again.stderr


def test_a_rotation_says_when_the_old_key_ends(weighbridge: Weighbridge) -> None:
    for options, sentence in (
        ((), r"The old key, KEY, is served until 20\d\d-\d\d-\d\d \d\d:\d\d UTC\."),
        (("--overlap", "0"), r"The old key, KEY, is refused from within two seconds on\."),
    ):
        key_id = json.loads(weighbridge("key", "create", "alice", "--json").stdout)["id"]
        stdout = weighbridge("key", "rotate", key_id, "--expires-in", "7d", *options).stdout
        assert well_formed(stdout.splitlines()[0])
        assert "It expires at 20" in stdout
        assert re.search(sentence.replace("KEY", key_id), stdout)
