"""Why a key isn't valid, as far as its looks tell: never whether there is, or was, such a key."""

from __future__ import annotations

import re

from proxy.errors import Hint
from proxy.gemini.credentials import is_googles
from proxy.gemini.hints import hint
from proxy.tenants.key_format import LENGTH, PREFIX, well_formed

_PLACEHOLDER = re.compile(r"[$<{\[].*|(?i:your)[_-].*|.*(?i:api)[_-]?(?i:key)(?:_here)?")


def of_key(key: str) -> Hint | None:
    """What to do about a key that isn't valid here; None where its looks say nothing."""
    if well_formed(key):
        return hint("ended-key")
    if key.startswith(PREFIX):
        return hint("broken-key", length=LENGTH)
    if is_googles(key):
        return hint("googles-key")
    return hint("placeholder-key") if len(key) <= 64 and _PLACEHOLDER.fullmatch(key) else None
