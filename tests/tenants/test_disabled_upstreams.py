"""Upstreams that the operator took out of service: kept, told to every server, with who did it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.config.schema import Storage
from proxy.store.database import Database, open_database
from proxy.tenants import audit, disabled_upstreams, projects
from proxy.tenants.disabled_upstreams import disable, enable, list_disabled
from proxy.tenants.keyring import Keyring
from tests.tenants.ring import Clock, watching


def test_one_is_disabled_until_it_is_enabled(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    assert disable(database, "a", 5, actor="cli:ann") == 5
    assert disable(database, "b", 6, actor="cli:ann") == 6
    assert disable(database, "a", 7, actor="cli:bob") == 5, "done twice, the first time stands"
    assert list_disabled(open_database(Storage(data_dir=tmp_path))) == {"a": 5, "b": 6}
    assert enable(database, "a", 8, actor="cli:bob")
    assert not enable(database, "a", 9, actor="cli:bob")
    assert list_disabled(database) == {"b": 6}


def test_who_changed_something_is_noted_and_nothing_where_nothing_changed(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    disable(database, "a", 5, actor="cli:ann")
    disable(database, "a", 6, actor="cli:ann")
    enable(database, "a", 7, actor="admin")
    enable(database, "a", 8, actor="admin")
    enabled, disabled = audit.list_events(database, limit=9)
    assert enabled[1:] == (7, "admin", "upstream.enable", "", None, {"disabled_at": {"before": 5, "after": None}}, "a")
    assert disabled[1:4] == (5, "cli:ann", "upstream.disable")
    assert (disabled.upstream, disabled.changes) == ("a", {"disabled_at": {"before": None, "after": 5}})


@pytest.mark.anyio
async def test_a_server_is_told_of_each_change_when_it_next_looks(database: Database, clock: Clock) -> None:
    """And of nothing where only something else has changed back and forth between two looks."""
    told: list[Mapping[str, int]] = []
    disable(database, "a", 5, actor="test")
    keyring = Keyring(
        database,
        now=lambda: clock.now,
        monotonic=lambda: clock.time,
        sleep=clock.sleep,
        disable_upstreams=told.append,
    )
    async with watching(keyring, clock):
        assert told == [{"a": 5}]
        await clock.tick()
        assert len(told) == 1, "nothing was changed"
        disabled_upstreams.disable(database, "b", 6, actor="test")
        await clock.tick()
        assert told[1:] == [{"a": 5, "b": 6}]
        assert keyring.disabled_upstreams == {"a": 5, "b": 6}
        enable(database, "a", 7, actor="test")
        await keyring.refresh()
        assert told[2:] == [{"b": 6}]
    await keyring.close()


@pytest.mark.anyio
async def test_while_the_database_is_away_they_stay_disabled(
    database: Database, keyring: Keyring, clock: Clock
) -> None:
    disable(database, "a", 5, actor="test")
    async with watching(keyring, clock):
        away = Path(str(database)).rename(Path(str(database)).with_name("away"))
        await clock.tick()
        assert keyring.disabled_upstreams == {"a": 5}
        away.rename(Path(str(database)))
        projects.disable(database, "alice", 6, actor="test")
        await clock.tick()
        assert keyring.disabled_upstreams == {"a": 5}
