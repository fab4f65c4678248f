"""What a key looks like, that only its digest is kept, and how keys are listed and revoked."""

from __future__ import annotations

import random
import re
import secrets
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.database import Database, open_database
from proxy.tenants import keys, projects
from proxy.tenants.keys import BASE62, UnknownKeyError, mint, well_formed
from proxy.tenants.projects import BadNameError, TenancyError, UnknownProjectError


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = open_database(tmp_path)
    projects.create(database, "alice", 1)
    projects.create(database, "bob", 1)
    return database


def test_a_key_is_a_prefix_random_characters_and_their_checksum() -> None:
    key = mint(random.Random(7).randrange)
    assert re.fullmatch(r"wb_[0-9A-Za-z]{38}", key)
    number = 0
    for character in key[-6:]:
        number = number * 62 + BASE62.index(character)
    assert number == zlib.crc32(key[3:35].encode())


def test_a_key_is_made_of_the_randomness_that_is_handed_in() -> None:
    assert mint(lambda below: 0)[3:35] == "0" * 32
    assert mint(lambda below: below - 1)[3:35] == "z" * 32
    assert mint(random.Random(1).randrange) != mint(random.Random(2).randrange)


@given(st.integers(0, 2**64))
def test_every_key_that_is_minted_is_well_formed(seed: int) -> None:
    assert well_formed(mint(random.Random(seed).randrange))


@given(st.integers(0, 2**64), st.integers(0, 40), st.sampled_from(BASE62 + "_-. é\0"))
def test_a_key_with_any_one_character_changed_is_not(seed: int, place: int, character: str) -> None:
    key = mint(random.Random(seed).randrange)
    changed = key[:place] + character + key[place + 1 :]
    assert well_formed(changed) == (changed == key)


@given(st.text())
def test_junk_is_told_from_a_key_whatever_it_is(text: str) -> None:
    assert not well_formed(text)
    assert not well_formed("wb_" + text)


def test_a_key_is_stored_as_its_digest_alone(database: Database) -> None:
    key, secret = keys.create(database, "alice", "notebook", 5, secrets.randbelow)
    assert secret[7:-10] not in repr(key)
    assert key.masked == f"{secret[:7]}…{secret[31:35]}"
    kept = database.path.read_bytes()
    assert keys.digest(secret) in kept
    assert secret.encode() not in kept
    assert secret[3:35].encode() not in kept


def test_keys_are_listed_by_project_and_age(database: Database) -> None:
    second, _ = keys.create(database, "alice", "b", 6, secrets.randbelow)
    first, _ = keys.create(database, "alice", "a", 5, secrets.randbelow)
    bobs, _ = keys.create(database, "bob", "a", 4, secrets.randbelow)
    assert keys.list_keys(database) == [first, second, bobs]
    assert keys.list_keys(database, "bob") == [bobs]
    with pytest.raises(UnknownProjectError, match="did you mean 'bob'"):
        keys.list_keys(database, "bo")


def test_a_key_wants_a_project_that_is_there_and_in_service(database: Database) -> None:
    with pytest.raises(UnknownProjectError, match="did you mean 'alice'"):
        keys.create(database, "alic", "a", 5, secrets.randbelow)
    projects.disable(database, "alice", 5)
    with pytest.raises(TenancyError, match="'alice' is disabled"):
        keys.create(database, "alice", "a", 5, secrets.randbelow)
    assert keys.list_keys(database) == []


@pytest.mark.parametrize("name", ["default", "Zoë", "ci @ build/7", "a.b-c_d"])
def test_a_keys_name_may_be_what_people_write(database: Database, name: str) -> None:
    assert keys.create(database, "alice", name, 5, secrets.randbelow)[0].name == name


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a\x1b[31m", "=cmd()", "a" * 64])
def test_a_keys_name_that_could_upset_a_terminal_or_a_spreadsheet_is_refused(database: Database, name: str) -> None:
    with pytest.raises(BadNameError, match="can't be a key's name"):
        keys.create(database, "alice", name, 5, secrets.randbelow)


def test_a_key_revoked_twice_keeps_the_first_time(database: Database) -> None:
    key, _ = keys.create(database, "alice", "a", 5, secrets.randbelow)
    assert keys.revoke(database, key.id, 6) == key._replace(revoked_at=6)
    assert keys.revoke(database, key.id, 7).revoked_at == 6
    assert keys.list_keys(database) == [key._replace(revoked_at=6)]


def test_revoking_what_is_not_there_is_an_error_that_repeats_no_secret(database: Database) -> None:
    with pytest.raises(UnknownKeyError, match="there is no key 'key_x'"):
        keys.revoke(database, "key_x", 6)
    _, secret = keys.create(database, "alice", "a", 5, secrets.randbelow)
    with pytest.raises(UnknownKeyError, match="the key itself is not its id") as caught:
        keys.revoke(database, secret, 6)
    assert secret not in str(caught.value)
