"""A database with one project, and a keyring on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.config.schema import Storage
from proxy.store import sqlite as store
from proxy.store.database import Database, open_database
from proxy.tenants import projects
from proxy.tenants.keyring import Keyring
from tests.tenants.ring import Clock


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 20)
    database = open_database(Storage(data_dir=tmp_path))
    projects.create(database, "alice", 1, actor="test")
    return database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keyring(database: Database, clock: Clock) -> AsyncIterator[Keyring]:
    keyring = Keyring(database, now=lambda: clock.now, monotonic=lambda: clock.time, sleep=clock.sleep)
    yield keyring
    await keyring.close()
