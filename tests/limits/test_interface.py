"""Counters: what they are called, and which calls count in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.limits import parse_all
from proxy.config.schema import Storage
from proxy.limits.interface import counters, of_upstream
from proxy.store.database import open_database
from proxy.tenants import projects


def test_a_counter_is_named_for_all_that_makes_it_another_and_for_nothing_else() -> None:
    """Project, key, kind, models, shadow; not the value: a limit that is changed goes on counting."""
    found = counters(
        "alice",
        "key_1",
        parse_all(["rpm=5", "rpm=5,shadow", "ipm=5,model=*-image*"]),
        parse_all(["rpm=5", "ipm=5,model=*-image*,shadow"]),
    )
    assert [counter.name for counter in found] == [
        "{alice}:rpm",
        "{alice}:rpm:*:shadow",
        "{alice}:ipm:*-image*",
        "{alice}:key_1:rpm",
        "{alice}:key_1:ipm:*-image*:shadow",
    ]
    assert [counter.key_id for counter in found] == ["", "", "", "key_1", "key_1"]
    assert counters("alice", "key_1", parse_all(["rpm=7"]), [])[0].name == found[0].name


def test_a_glob_is_of_model_ids() -> None:
    """As a shell reads it; capitals and small letters are one, so that no spelling goes round a limit."""
    every, image = counters("alice", "", parse_all(["ipm=5,model=gemini-*-image*", "rpm=5"]), [])
    assert [image.applies(name) for name in ("gemini-3-pro-image", "gemini-3-pro", "GEMINI-3-pro-image")] == [
        True,
        False,
        True,
    ]
    assert every.applies("whatever")


def test_no_project_can_be_called_as_an_upstreams_counters_are(tmp_path: Path) -> None:
    """Else it would count in the upstream's quota."""
    database = open_database(Storage(data_dir=tmp_path))
    with pytest.raises(projects.BadNameError):
        projects.create(database, of_upstream("google"), 0, actor="test")
