"""Counters: what they are called, and which calls count in them."""

from __future__ import annotations

from types import SimpleNamespace

from proxy.limits.interface import Configured, counters


def limit(kind: str, value: int = 5, model: str = "*", *, shadow: bool = False) -> Configured:
    return SimpleNamespace(kind=kind, value=value, model=model, shadow=shadow)  # type: ignore[return-value]


def test_a_counter_is_named_for_all_that_makes_it_another_and_for_nothing_else() -> None:
    """Project, key, kind, models, shadow; not the value: a limit that is changed goes on counting."""
    found = counters(
        "alice",
        "key_1",
        [limit("rpm"), limit("rpm", shadow=True), limit("ipm", model="*-image*")],
        [limit("rpm"), limit("ipm", model="*-image*", shadow=True)],
    )
    assert [counter.name for counter in found] == [
        "{alice}:rpm",
        "{alice}:rpm:*:shadow",
        "{alice}:ipm:*-image*",
        "{alice}:key_1:rpm",
        "{alice}:key_1:ipm:*-image*:shadow",
    ]
    assert [counter.key_id for counter in found] == ["", "", "", "key_1", "key_1"]
    assert counters("alice", "key_1", [limit("rpm", 7)], [])[0].name == found[0].name


def test_a_glob_is_of_model_ids() -> None:
    """As a shell reads it; capitals and small letters are one, so that no spelling goes round a limit."""
    image, every = counters("alice", "", [limit("ipm", model="gemini-*-image*"), limit("rpm")], [])
    assert [image.applies(name) for name in ("gemini-3-pro-image", "gemini-3-pro", "GEMINI-3-pro-image")] == [
        True,
        False,
        True,
    ]
    assert every.applies("whatever")
