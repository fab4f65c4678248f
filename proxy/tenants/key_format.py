"""What a virtual key looks like: minted, told from junk, digested. docs/keys.md publishes the pattern."""

from __future__ import annotations

import hashlib
import string
import zlib
from collections.abc import Callable

PREFIX = "wb_"
RANDOM_LENGTH = 32
CHECKSUM_LENGTH = 6
LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECKSUM_LENGTH
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

Below = Callable[[int], int]
"""A random number from 0 up to, and without, the one given. `secrets.randbelow`, save in tests."""


def mint(below: Below) -> str:
    """A new key: `wb_`, 32 random base62 characters (190 bits), and their CRC32 as six more.

    The checksum lets us, and those who search code for leaked secrets, tell a key from junk without a look-up.
    """
    random = random_text(RANDOM_LENGTH, below)
    return PREFIX + random + _checksum(random)


def random_text(length: int, below: Below) -> str:
    """Random base62 characters."""
    return "".join(BASE62[below(62)] for _ in range(length))


def _checksum(random: str) -> str:
    rest = zlib.crc32(random.encode())
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        rest, digit = divmod(rest, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))


def well_formed(key: str) -> bool:
    """Whether this could be a key of ours; says nothing of whether it is one."""
    if len(key) != LENGTH or not key.startswith(PREFIX) or not key.isascii():
        return False
    return key[-CHECKSUM_LENGTH:] == _checksum(key[len(PREFIX) : -CHECKSUM_LENGTH])


def digest(key: str) -> bytes:
    """What is stored of a key: enough to know it again. 190 random bits need neither salt nor stretching."""
    return hashlib.sha256(key.encode()).digest()


def masked(key: str) -> str:
    """What people recognise a key by: prefix, first and last four of its random characters."""
    return f"{key[: len(PREFIX) + 4]}…{key[-CHECKSUM_LENGTH - 4 : -CHECKSUM_LENGTH]}"
