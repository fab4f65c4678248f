"""Keys: that only a digest is kept, what a key may be made with, and how keys are listed, rotated and revoked."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.config.limits import parse_all
from proxy.config.schema import Storage
from proxy.store.database import Database, open_database
from proxy.tenants import audit, keys, projects
from proxy.tenants.key_format import digest, mint
from proxy.tenants.keys import Key, UnknownKeyError
from proxy.tenants.projects import BadNameError, BadOptionError, TenancyError, UnknownProjectError
from proxy.tenants.uses import write_uses


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = open_database(Storage(data_dir=tmp_path))
    projects.create(database, "alice", 1, actor="test")
    projects.create(database, "bob", 1, actor="test")
    return database


def test_a_key_is_stored_as_its_digest_alone(database: Database) -> None:
    key, secret = keys.create(database, "alice", "notebook", 5, secrets.randbelow, actor="test")
    assert secret[7:-10] not in repr(key)
    assert key.masked == f"{secret[:7]}…{secret[31:35]}"
    kept = Path(str(database)).read_bytes()
    assert digest(secret) in kept
    assert secret.encode() not in kept
    assert secret[3:35].encode() not in kept


def test_keys_are_listed_by_project_and_age(database: Database) -> None:
    second, _ = keys.create(database, "alice", "b", 6, secrets.randbelow, actor="test")
    first, _ = keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test")
    bobs, _ = keys.create(database, "bob", "a", 4, secrets.randbelow, actor="test")
    assert keys.list_keys(database) == [first, second, bobs]
    assert keys.list_keys(database, "bob") == [bobs]
    with pytest.raises(UnknownProjectError, match="did you mean 'bob'"):
        keys.list_keys(database, "bo")


def test_a_key_wants_a_project_that_is_there_and_in_service(database: Database) -> None:
    with pytest.raises(UnknownProjectError, match="did you mean 'alice'"):
        keys.create(database, "alic", "a", 5, secrets.randbelow, actor="test")
    projects.disable(database, "alice", 5, actor="test")
    with pytest.raises(TenancyError, match="'alice' is disabled"):
        keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test")
    assert keys.list_keys(database) == []


@pytest.mark.parametrize("name", ["default", "Zoë", "ci @ build/7", "a.b-c_d"])
def test_a_keys_name_may_be_what_people_write(database: Database, name: str) -> None:
    assert keys.create(database, "alice", name, 5, secrets.randbelow, actor="test")[0].name == name


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a\x1b[31m", "=cmd()", "a" * 64, "\u202eevil"])
def test_a_keys_name_that_could_upset_a_terminal_or_a_spreadsheet_is_refused(database: Database, name: str) -> None:
    with pytest.raises(BadNameError, match="can't be a key's name"):
        keys.create(database, "alice", name, 5, secrets.randbelow, actor="test")


def test_a_key_revoked_twice_keeps_the_first_time(database: Database) -> None:
    key, _ = keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test")
    assert keys.revoke(database, key.id, 6, actor="test") == key._replace(revoked_at=6)
    assert keys.revoke(database, key.id, 7, actor="test").revoked_at == 6
    assert keys.list_keys(database) == [key._replace(revoked_at=6)]


def test_revoking_what_is_not_there_is_an_error_that_repeats_no_secret(database: Database) -> None:
    with pytest.raises(UnknownKeyError, match="there is no key 'key_x'"):
        keys.revoke(database, "key_x", 6, actor="test")
    _, secret = keys.create(database, "alice", "a", 5, secrets.randbelow, actor="test")
    with pytest.raises(UnknownKeyError, match="the key itself is not its id") as caught:
        keys.revoke(database, secret, 6, actor="test")
    assert secret not in str(caught.value)


def new(database: Database, project: str = "alice", **options: Any) -> tuple[Key, str]:
    return keys.create(database, project, "a", 5, secrets.randbelow, actor="test", **options)


def rotated(database: Database, key: Key, now: int, overlap: int, **options: Any) -> tuple[Key, Key, str]:
    return keys.rotate(database, key.id, now, secrets.randbelow, actor="test", overlap=overlap, **options)


def test_a_key_is_kept_with_its_options(database: Database) -> None:
    key, _ = new(
        database,
        expires_at=50,
        models=["gemini-*-image", "gemini-3.8-flash", "gemini-*-image"],
        addresses=["10.0.0.0/8", "::1", "::ffff:10.0.0.0/104"],
        limits=parse_all(["rpm=5", "ipm=1,model=*-image*,shadow"]),
    )
    assert keys.list_keys(database) == [key]
    assert key.models == ("gemini-*-image", "gemini-3.8-flash")
    assert key.addresses == ("10.0.0.0/8", "::1/128")
    assert [str(limit) for limit in key.limits] == ["rpm=5", "ipm=1,model=*-image*,shadow"]
    assert [key.state(now) for now in (49, 50)] == ["active", "expired"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"expires_at": 5}, "expires after it is made"),
        ({"expires_at": -1}, "expires after it is made"),
        ({"expires_at": 2**70}, "before the year 10000"),
        ({"models": []}, "no model is named: .* stands for all"),
        ({"models": ["gemini é"]}, "no model's id and no glob"),
        ({"models": [f"m{number}" for number in range(101)]}, "101 models are too many"),
        ({"addresses": ["10.0.0.1/8"]}, "write 10.0.0.0/8"),
        ({"addresses": ["office"]}, "is no address and no network"),
        ({"addresses": [f"10.0.0.{number}" for number in range(101)]}, "101 addresses are too many"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_and_no_key_made(
    database: Database, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadOptionError, match=sentence):
        new(database, **options)
    assert keys.list_keys(database) == []


def test_a_name_that_holds_a_key_is_refused_without_repeating_it(database: Database) -> None:
    """It would stand in every record of its calls."""
    secret = mint(secrets.randbelow)
    with pytest.raises(BadNameError, match="can't be a key's name") as caught:
        keys.create(database, "alice", f"for {secret}", 5, secrets.randbelow, actor="test")
    assert secret not in str(caught.value)


def test_a_rotated_key_is_followed_by_one_with_the_same_options_and_ends_with_the_overlap(database: Database) -> None:
    options = {"models": ["gemini-*"], "addresses": ["10.0.0.0/8"], "limits": parse_all(["rpm=5"])}
    key, secret = new(database, **options)
    write_uses(database, {key.id: 7})
    old, successor, new_secret = rotated(database, key, 10, 100)
    assert old == key._replace(expires_at=110, last_used_at=7)
    assert successor == key._replace(
        id=successor.id, masked=successor.masked, created_at=10, rotated_from=key.id, last_used_at=None
    )
    assert keys.list_keys(database) == [old, successor]
    assert (successor.id, new_secret) != (key.id, secret)
    assert digest(new_secret) in Path(str(database)).read_bytes()
    assert new_secret.encode() not in Path(str(database)).read_bytes()


@pytest.mark.parametrize(("overlap", "ends"), [(0, 10), (5, 15), (1000, 50)])
def test_an_overlap_never_lengthens_a_keys_life(database: Database, overlap: int, ends: int) -> None:
    key, _ = new(database, expires_at=50)
    old, successor, _ = rotated(database, key, 10, overlap)
    assert (old.expires_at, successor.expires_at) == (ends, 50)
    assert old.state(10) == ("expired" if overlap == 0 else "active")


def test_a_rotation_may_give_the_new_key_a_life_of_its_own(database: Database) -> None:
    key, _ = new(database, expires_at=50)
    assert rotated(database, key, 10, 5, expires_at=500)[1].expires_at == 500


def _revoke(database: Database, key: Key) -> None:
    keys.revoke(database, key.id, 6, actor="test")


def _rotate(database: Database, key: Key) -> None:
    rotated(database, key, 6, 1000)


def _disable(database: Database, key: Key) -> None:
    projects.disable(database, key.project, 6, actor="test")


@pytest.mark.parametrize(
    ("before", "now", "options", "sentence"),
    [
        (
            _revoke,
            10,
            {},
            "is revoked: nothing is left to overlap with. Make a new one: `weighbridge key create alice`",
        ),
        (None, 50, {}, "is expired: nothing is left"),
        (_rotate, 10, {}, "was rotated already, to key_[0-9A-Za-z]{16}: rotate that one"),
        (_disable, 10, {}, "'alice' is disabled"),
        (None, 10, {"expires_at": 10}, "expires after it is made"),
        (None, 10, {"overlap": -1}, "an overlap is 0"),
        (None, 10, {"overlap": 2**70}, "before the year 10000"),
    ],
)
def test_a_rotation_that_makes_no_sense_is_refused_and_changes_nothing(
    database: Database,
    before: Callable[[Database, Key], None] | None,
    now: int,
    options: dict[str, Any],
    sentence: str,
) -> None:
    key, _ = new(database, expires_at=50)
    if before:
        before(database, key)
    were = keys.list_keys(database)
    with pytest.raises(TenancyError, match=sentence):
        rotated(database, key, now, **{"overlap": 1, **options})
    assert keys.list_keys(database) == were


def test_rotating_what_is_not_there_is_an_error_that_repeats_no_secret(database: Database) -> None:
    key, secret = new(database)
    with pytest.raises(UnknownKeyError, match="the key itself is not its id") as caught:
        rotated(database, key._replace(id=secret), 6, 1)
    assert secret not in str(caught.value)


def test_every_write_of_a_key_leaves_an_event_and_none_that_tells_the_key(database: Database) -> None:
    key, secret = new(database, limits=parse_all(["rpm=5"]))
    old, successor, new_secret = rotated(database, key, 10, 5)
    keys.revoke(database, old.id, 11, actor="mallory")
    keys.revoke(database, old.id, 12, actor="mallory")  # changes nothing
    events = audit.list_events(database, limit=4)[::-1]
    assert [(event.action, event.key_id, event.project, event.actor, event.at) for event in events] == [
        ("key.create", key.id, "alice", "test", 5),
        ("key.create", successor.id, "alice", "test", 10),
        ("key.rotate", old.id, "alice", "test", 10),
        ("key.revoke", old.id, "alice", "mallory", 11),
    ]
    assert events[0].changes["limits"] == {"before": None, "after": ["rpm=5"]}
    assert events[1].changes["rotated_from"] == {"before": None, "after": key.id}
    assert events[2].changes == {"expires_at": {"before": None, "after": 15}}
    assert events[3].changes == {"revoked_at": {"before": None, "after": 11}}
    told = repr(events)
    for known in (key, successor):
        assert known.masked not in told
    for made in (secret, new_secret):
        assert made[3:10] not in told
        assert digest(made).hex() not in told
        assert repr(digest(made))[2:-1] not in told


def test_a_key_is_listed_with_its_last_use(database: Database) -> None:
    key, _ = new(database)
    other, _ = new(database, "bob")
    write_uses(database, {key.id: 9})
    assert keys.list_keys(database) == [key._replace(last_used_at=9), other]
