"""Composition root: Settings → the two ASGI apps. The only file that knows all parts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Self

import structlog

from proxy import __version__
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken, LedgerUnusable
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.records import id_maker
from proxy.config.load import ConfigError
from proxy.config.schema import Settings
from proxy.config.schema import Upstream as UpstreamSettings
from proxy.control.routes import control_app
from proxy.gateway.intake import Intake
from proxy.gateway.refusals import tell_refusal
from proxy.gateway.relay import Relay
from proxy.gateway.routes import Gateway
from proxy.gateway.weighing import Weigher
from proxy.store.database import Database, open_database
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keyring import Keyring
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.pool import Upstream
from proxy.upstreams.transport import Timeouts

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


def unix_us() -> int:
    return time.time_ns() // 1000


class App:
    """A running Weighbridge, but for its listeners: what stands behind the two doors, and what they share."""

    def __init__(
        self, settings: Settings, database: Database, ledger: Ledger, book: PriceBook, metrics: Metrics
    ) -> None:
        """Puts the parts together. Use `open`."""
        self.ready = False
        self.ledger = ledger
        self.new_id = id_maker(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)
        self._keyring = Keyring(database, monotonic=time.monotonic)
        self._upstream = _upstream(settings.upstreams[0], settings.gateway.first_byte_timeout_s)
        self._relay = Relay(
            keyring=self._keyring,
            upstream=self._upstream,
            intake=Intake(settings.storage.data_dir / "spool", limit=settings.server.max_body_mb << 20),
            weigher=Weigher(
                ledger=ledger,
                book=book,
                upstream=self._upstream.name,
                days=Days(settings.limits.timezone),
                metrics=metrics,
                refuse_unpriced=settings.gateway.unpriced_models == "refuse",
                now=unix_us,
                monotonic=time.monotonic,
                new_id=self.new_id,
            ),
            metrics=metrics,
            monotonic=time.monotonic,
            drain_after_disconnect_s=settings.gateway.drain_after_disconnect_s,
        )
        self.tell_refusal = partial(tell_refusal, metrics)
        """What the door refuses before it reaches the relay is counted and logged like all else."""
        metrics.in_flight.set_function(lambda: self.in_flight)
        self.gateway = Gateway(self._relay, ready=self.is_ready, cors_origins=settings.gateway.cors_origins)
        self.control = control_app(metrics=metrics, ready=self.is_ready)

    @classmethod
    async def open(cls, settings: Settings, *, ledger_broke: Callable[[], object]) -> Self:
        """Opens database and ledger, and puts the parts together.

        `ledger_broke` is called once, on the loop, when the ledger file fails: it must end the process. Raises
        StoreError, LedgerLocked, LedgerUnusable, ConfigError, each with a sentence for the operator.
        """
        data_dir = settings.storage.data_dir
        database = open_database(data_dir)
        try:
            book = PriceBook.load(settings.prices)
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        metrics = Metrics(__version__, book.models())

        def on_broken(broken: LedgerBroken) -> None:
            log.critical("ledger_broken", why=str(broken), what="breaking off every call and ending")
            ledger_broke()

        try:
            ledger = Ledger.open(data_dir, now_us=unix_us, on_broken=on_broken, on_commit=metrics.ledger_commit.observe)
        except OSError as error:
            raise LedgerUnusable(
                f"{error.filename or data_dir} can't be used: {error.strerror}. "
                "storage.data_dir names the folder: look at who owns it, and at its disk."
            ) from error
        try:
            return cls(settings, database, ledger, book, metrics)
        except BaseException:
            await ledger.close()
            raise

    @property
    def in_flight(self) -> int:
        return self._relay.in_flight

    def is_ready(self) -> bool:
        """Not "the database answers": an outage of what all nodes share must not take all nodes out."""
        return self.ready and self.ledger.available

    def drain(self) -> None:
        """No new calls from here on; those in flight finish."""
        self.ready = False
        self._relay.draining = True

    async def watch(self) -> None:
        """Follows changes of projects and keys, for ever."""
        await self._keyring.watch()

    async def close(self) -> None:
        """Commits what the ledger still holds, and lets everything go."""
        try:
            await self._upstream.aclose()
        finally:
            self._keyring.close()
            await self.ledger.close()


def _upstream(settings: UpstreamSettings, first_byte_s: float) -> Upstream:
    timeouts = Timeouts(first_byte=first_byte_s)
    transport = Http11Transport(settings.base_url, timeouts=timeouts, max_connections=settings.max_connections)
    return Upstream(settings.name, settings.base_url, settings.auth, settings.api_key.get_secret_value(), transport)
