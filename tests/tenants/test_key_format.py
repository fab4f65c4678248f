"""What a key looks like, and how it is told from junk."""

from __future__ import annotations

import random
import re
import zlib

from hypothesis import given
from hypothesis import strategies as st

from proxy.tenants.key_format import BASE62, masked, mint, well_formed


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


def test_what_a_key_is_recognised_by_is_too_little_to_guess_the_rest() -> None:
    key = mint(random.Random(7).randrange)
    assert masked(key) == f"wb_{key[3:7]}…{key[31:35]}"
    assert key[7:31] not in masked(key)
