"""What a key that isn't valid looks like is told, and neither whether there is such a key nor any of its characters."""

from __future__ import annotations

import pytest

from proxy.tenants import key_format
from proxy.tenants.key_hints import of_key

MINTED = key_format.mint(lambda below: below - 1)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (MINTED, "ended-key"),
        (MINTED[:-1], "broken-key"),
        (MINTED[:-1] + "0", "broken-key"),
        ("wb_", "broken-key"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuvw", "googles-key"),
        ("AQ.Ab8RN6Kx1234567890abcdefghijk", "googles-key"),
        ("ya29.a0AfH6SMBx1234567890", "googles-key"),
        ("$GEMINI_API_KEY", "placeholder-key"),
        ("${KEY}", "placeholder-key"),
        ("{api_key}", "placeholder-key"),
        ("<your key>", "placeholder-key"),
        ("YOUR_API_KEY", "placeholder-key"),
        ("your-key-here", "placeholder-key"),
        ("GEMINI_API_KEY", "placeholder-key"),
        ("nonsense", None),
        ("", None),
        ("AIza", None),
        ("sk-1234567890abcdef", None),
        ("$" + "x" * 64, None),
        ("yours", None),
    ],
)
def test_a_key_is_told_by_its_looks(key: str, name: str | None) -> None:
    found = of_key(key)
    assert (found.name if found else None) == name
    if found and len(key) > 8:
        assert key not in found.sentence
