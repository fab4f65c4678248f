"""The control plane: what stands behind the control door, and what one process of a node does for all of them."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
from collections.abc import Callable, Collection

from proxy.billing.periods import DAY_US, Days
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.control.admin import token as admin_token
from proxy.control.admin.routes import admin_api
from proxy.control.admin.upstreams import Upstreams
from proxy.control.budgets import Budgets
from proxy.control.events import Events
from proxy.control.limits_used import LimitsUsed
from proxy.control.routes import control_app
from proxy.control.shipper import Shipper
from proxy.data_plane import DataPlane, Parts
from proxy.store.database import Database

LAST_SHIPPED_WITHIN_S = 5.0


class ControlPlane:
    """Use it on the loop of the process that it is part of."""

    def __init__(
        self,
        parts: Parts,
        database: Database,
        settings: Settings,
        owned: Collection[str],
        plane: Callable[[], DataPlane],
    ) -> None:
        """`owned`: the slots of ledger files that a process of this data_dir writes. `plane` is the data plane in
        force."""
        self._parts = parts
        self._database = database
        self._plane = plane
        of_limits = lambda: parts.keyring.tenants, parts.limiter, lambda: Days(self._timezone()), unix_us
        budgets, self._limits = Budgets(*of_limits), LimitsUsed(*of_limits, parts.metrics)
        self._events = Events(
            database, settings.events, budgets.used, parts.metrics, now_us=unix_us, new_id=parts.new_id
        )
        self._shipper = self._open_shipper(settings, owned) if database.postgresql else None
        admin = admin_api(
            token=admin_token.read_or_make(settings.storage.data_dir, os.environ, secrets.token_bytes),
            database=database,
            sources=parts.sources,
            ledger=parts.ledger,
            limiter=parts.limiter,
            book=lambda: plane().book,
            timezone=self._timezone,
            now_us=unix_us,
            new_id=parts.new_id,
            upstreams=self._upstreams(),
        )
        self.asgi = control_app(metrics=parts.metrics, ready=parts.ready, admin=admin)
        """The ASGI app behind the control door."""

    def configure(self, settings: Settings) -> None:
        self._events.configure(settings.events)

    async def watch(self) -> None:
        """Tells of events and of limits in use, and ships records to PostgreSQL, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.watch())
            group.create_task(self._limits.watch())
            if self._shipper is not None:
                group.create_task(self._shipper.watch())

    async def close(self) -> None:
        """Ships the last records, where that can be done soon: else the next start does."""
        if self._shipper is not None:
            await self._shipper.finish(LAST_SHIPPED_WITHIN_S)

    def _open_shipper(self, settings: Settings, owned: Collection[str]) -> Shipper:
        return Shipper(
            self._database,
            settings.storage.data_dir,
            owned,
            unix_us,
            node=platform.node(),
            day_of=Days(settings.limits.timezone).name,
            retention_us=settings.storage.retention_days * DAY_US,
            on_backlog=self._parts.metrics.unshipped,
        )

    def _upstreams(self) -> Upstreams:
        return Upstreams(
            database=self._database,
            configured=lambda: self._plane().settings.upstreams,
            pool=lambda: self._plane().pool,
            disabled=lambda: self._parts.keyring.disabled_upstreams,
            refresh=self._parts.keyring.refresh,
            now_us=unix_us,
            quota=lambda name: self._plane().quotas.used(name),
        )

    def _timezone(self) -> str:
        return self._plane().settings.limits.timezone
