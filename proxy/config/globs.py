"""Globs of model ids, such as "gemini-*-image": which are taken, and what they match."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

MAX_LENGTH = 100
_GLOB = re.compile(r"(?:[A-Za-z0-9._/*?-]|\[!?[A-Za-z0-9._-]+\])+")
_NOTHING = "(?!)"
"""What `translate` makes of a set that no character is in, such as "[z-a]"."""


def check_glob(glob: str) -> str:
    """The glob itself. Raises ValueError, with a sentence, for what can't match a model's id."""
    if glob.startswith("models/"):
        raise ValueError(f"model {glob[:MAX_LENGTH]!r}: write it without models/")
    if len(glob) > MAX_LENGTH or not _GLOB.fullmatch(glob) or _NOTHING in translate(glob):
        raise ValueError(
            f"model {glob[:MAX_LENGTH]!r} is no model's id and no glob of such: write an id, or a glob like "
            f"gemini-*-image (letters, digits, . _ / -, with * ? and [sets]; at most {MAX_LENGTH} characters)"
        )
    return glob


def is_glob(text: str) -> bool:
    """Whether it may match anything but itself."""
    return any(character in text for character in "*?[")


@lru_cache(maxsize=4096)
def matcher(glob: str, *, any_case: bool = False) -> Callable[[str], object]:
    """What tells whether a model's id (without "models/") matches, as `fnmatch.fnmatchcase` does; compiled once.

    `any_case`: capitals and small letters are one.
    """
    return re.compile(translate(glob), re.IGNORECASE if any_case else 0).match
