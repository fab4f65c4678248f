"""The admin API alone, on a real socket, with a real ledger and a real database behind it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from proxy.billing import reports
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord
from proxy.billing.sources import Sources
from proxy.config.schema import Storage
from proxy.control.admin.routes import admin_api
from proxy.control.admin.upstreams import Quota, Upstreams
from proxy.control.routes import control_app
from proxy.limits.memory import MemoryLimiter
from proxy.store.database import Database, open_database
from proxy.telemetry.metrics import Metrics
from proxy.tenants import projects
from proxy.upstreams.health import Health
from proxy.upstreams.pool import Pool
from tests.billing.sample import NOON
from tests.servers import serving

BOOK = PriceBook.of(None)
TOKEN = "wba_0123456789abcdef"


@dataclass
class Admin:
    """A control door at `url`; `client` has the token. From NOON on, each look at the clock takes a microsecond."""

    url: str
    client: httpx2.AsyncClient
    data_dir: Path
    database: Database
    ledger: Ledger
    limiter: MemoryLimiter

    def records(self) -> list[UsageRecord]:
        return list(reports.export(ledger_files(self.data_dir)))


async def no_refresh() -> None:
    """There is no keyring that would have to look."""


async def no_quota(_upstream: str) -> Quota:
    return ()


@asynccontextmanager
async def admin_of(data_dir: Path, database: Database, node: str = "") -> AsyncIterator[Admin]:
    """A node's control door. `node`: what its ids begin with."""
    ledger = Ledger.open(data_dir, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
    limiter = MemoryLimiter(lambda: NOON // 1000)
    clock, numbers = itertools.count(NOON), itertools.count(1)
    upstreams = Upstreams(
        database=database,
        configured=tuple,
        pool=lambda: Pool((), Health(lambda: 0.0, lambda: 0.0, lambda: 0.0)),
        disabled=dict,
        refresh=no_refresh,
        now_us=lambda: next(clock),
        quota=no_quota,
    )
    api = admin_api(
        token=TOKEN,
        database=database,
        sources=Sources.of(Storage(data_dir=data_dir), database),
        ledger=ledger,
        limiter=limiter,
        book=lambda: BOOK,
        timezone=lambda: "America/Los_Angeles",
        now_us=lambda: next(clock),
        new_id=lambda: f"{node}{next(numbers)}",
        upstreams=upstreams,
    )
    door = control_app(metrics=Metrics("1", []), ready=lambda: True, admin=api)
    async with serving(door) as url, httpx2.AsyncClient(base_url=f"{url}/admin/v1/") as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield Admin(url, client, data_dir, database, ledger, limiter)
    await ledger.close()


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    """With the projects acme and bobs in it."""
    database = open_database(Storage(data_dir=tmp_path))
    for project in ("acme", "bobs"):
        projects.create(database, project, NOON, actor="test")
    async with admin_of(tmp_path, database) as made:
        yield made
