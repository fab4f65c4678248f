"""The control plane: what stands behind the control door, and what one process of a node does for all of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from proxy.billing.periods import Days
from proxy.config.schema import Settings
from proxy.control.admin import token as admin_token
from proxy.control.admin.routes import admin_api
from proxy.control.admin.upstreams import Upstreams
from proxy.control.budgets import Budgets
from proxy.control.events import Events
from proxy.control.routes import control_app
from proxy.data_plane import DataPlane, Parts, unix_us
from proxy.store.database import Database


class ControlPlane:
    """Use it on the loop of the process that it is part of."""

    def __init__(self, parts: Parts, database: Database, settings: Settings, plane: Callable[[], DataPlane]) -> None:
        """`plane` is the data plane in force."""
        self._parts = parts
        self._database = database
        self._plane = plane
        budgets = Budgets(lambda: parts.keyring.tenants, parts.limiter, lambda: Days(self._timezone()), unix_us)
        self._events = Events(
            database, settings.events, budgets.used, parts.metrics, now_us=unix_us, new_id=parts.new_id
        )
        admin = admin_api(
            token=admin_token.read_or_make(settings.storage.data_dir, os.environ, secrets.token_bytes),
            database=database,
            data_dir=settings.storage.data_dir,
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
        """Tells of events, for ever."""
        await self._events.watch()

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
