"""Composition root: Settings → the two ASGI apps. The only file that knows all parts."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import structlog

from proxy import __version__
from proxy.billing.configured import open_book, open_catalogue
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken, LedgerUnusable
from proxy.billing.periods import DAY_US, GOOGLES_ZONE, Days
from proxy.billing.prices import PriceBook
from proxy.billing.records import id_maker
from proxy.billing.sources import Sources
from proxy.billing.unpriced import Unpriced
from proxy.config.addresses import parse_network
from proxy.config.schema import Settings
from proxy.control.admin import token as admin_token
from proxy.control.admin.limits import Configured, in_use
from proxy.control.admin.routes import admin_api
from proxy.control.admin.upstreams import Upstreams
from proxy.control.budgets import Budgets
from proxy.control.events import Events
from proxy.control.routes import control_app
from proxy.gateway import in_flight
from proxy.gateway.account import Account
from proxy.gateway.images.catalogue import Catalogue
from proxy.gateway.images.drawing import Easel
from proxy.gateway.images.fetch import Fetcher
from proxy.gateway.images.front import Images
from proxy.gateway.images.order import Orders
from proxy.gateway.intake import Intake
from proxy.gateway.limiting import Limits
from proxy.gateway.quotas import Quotas
from proxy.gateway.refusals import tell_refusal
from proxy.gateway.relay import Relay
from proxy.gateway.routes import Gateway
from proxy.gateway.weigher import Weigher
from proxy.gemini.aliases import Aliases
from proxy.limiter import open_limiter, redis_of
from proxy.limits.interface import Limiter, counters
from proxy.store.database import Database, open_database
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.multiprocess import WorkerFiles
from proxy.tenants import disabled_upstreams
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from proxy.upstreams.attempts import Attempts
from proxy.upstreams.configured import open_pool
from proxy.upstreams.health import Health
from proxy.upstreams.pool import Pool

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from proxy.upstreams.shared_health import SharedHealth

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


def unix_us() -> int:
    return time.time_ns() // 1000


METRICS = "metrics"
"""The folder in data_dir where workers write theirs."""
METRICS_WRITTEN_EVERY_S = 1.0


class Process(NamedTuple):
    """Which part of Weighbridge a process is, and which ledger file is its own."""

    slot: str = "0"
    gateway: bool = True
    """It serves calls."""
    control: bool = True
    """It serves operators, and does what one process of a node does."""
    locked: bool = False
    """There are others on this data_dir, and the supervisor has the lock of the ledger for all of them."""

    def __str__(self) -> str:
        return f"worker {self.slot}" if self.gateway else "control process"


ALONE = Process()


class DataPlane(NamedTuple):
    """What serves calls under one configuration. A reload makes another; calls end on the one that they began on."""

    settings: Settings
    book: PriceBook
    pool: Pool
    quotas: Quotas
    relay: Relay
    gateway: Gateway


class App:
    """A running Weighbridge, but for its listeners: what stands behind the two doors, and what they share."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        ledger: Ledger,
        limiter: Limiter,
        book: PriceBook,
        metrics: Metrics,
        process: Process,
        written: WorkerFiles | None,
    ) -> None:
        """Puts the parts together. Use `open`."""
        self.ready = False
        self._process = process
        self._written = written
        self.ledger = ledger
        self.limiter = limiter
        self.metrics = metrics
        self.new_id = id_maker(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)
        self._intake = Intake(settings.storage.data_dir / "spool", limit=settings.server.max_body_mb << 20)
        self._free_calls = in_flight.free_calls()
        self._unpriced = Unpriced()
        self._google_days = Days(GOOGLES_ZONE)
        self._health = Health(time.monotonic, random.random, self._midnight_s, metrics.upstream_changed)
        self._health.disable(disabled_upstreams.list_disabled(database))
        self._keyring = Keyring(database, now=unix_us, monotonic=time.monotonic, disable_upstreams=self._health.disable)
        self._shared = self._share(settings)
        self._sources = Sources.of(settings.storage, database)
        self._plane = self._data_plane(settings, book, open_pool(settings, self._health))
        self._planes = [self._plane]
        self._tell_upstreams()
        self._retiring: set[asyncio.Task[None]] = set()
        self.tell_refusal = partial(tell_refusal, metrics)
        """What the door refuses before it reaches the relay is counted and logged like all else."""
        if written is None:
            metrics.in_flight.set_function(lambda: self.in_flight)
        if process.control:
            self._control(settings, database)

    def _control(self, settings: Settings, database: Database) -> None:
        budgets = Budgets(lambda: self._keyring.tenants, self.limiter, lambda: Days(self._timezone()), unix_us)
        self._events = Events(database, settings.events, budgets.used, self.metrics, now_us=unix_us, new_id=self.new_id)
        admin = admin_api(
            token=admin_token.read_or_make(settings.storage.data_dir, os.environ, secrets.token_bytes),
            database=database,
            sources=self._sources,
            ledger=self.ledger,
            limiter=self.limiter,
            book=lambda: self._plane.book,
            timezone=self._timezone,
            now_us=unix_us,
            new_id=self.new_id,
            upstreams=self._upstreams(database),
        )
        self.control = control_app(metrics=self.metrics, ready=self.is_ready, admin=admin)

    def _upstreams(self, database: Database) -> Upstreams:
        return Upstreams(
            database=database,
            configured=lambda: self._plane.settings.upstreams,
            pool=lambda: self._plane.pool,
            disabled=lambda: self._keyring.disabled_upstreams,
            refresh=self._keyring.refresh,
            now_us=unix_us,
            quota=lambda name: self._plane.quotas.used(name),
        )

    def _tell_upstreams(self) -> None:
        """Metrics name those of the configuration in force, and no others."""
        names = [one.name for one in self._plane.pool.upstreams]
        self.metrics.know_upstreams({name: self._health.available(name) for name in names})

    def _timezone(self) -> str:
        return self._plane.settings.limits.timezone

    def _midnight_s(self) -> float:
        """Until Google's daily quotas begin anew."""
        now = unix_us()
        return (self._google_days.end(now) - now) / 1_000_000

    def _share(self, settings: Settings) -> SharedHealth | None:
        """Outages are shared where there is a Redis."""
        if not settings.storage.redis_url:
            return None
        # Imported here: see _open_limiter.
        from proxy.upstreams.news_stream import FOLLOW_TIMEOUT_S, NewsStream
        from proxy.upstreams.shared_health import SharedHealth

        stream = NewsStream(redis_of(settings.storage), redis_of(settings.storage, FOLLOW_TIMEOUT_S))
        return SharedHealth(stream, self._health, lambda: self._plane.pool.upstreams, self.new_id())

    def _attempts(self) -> Attempts:
        shared = (self._shared.claim, self._shared.release) if self._shared else ()
        return Attempts(self._health, self.metrics, time.monotonic, *shared)

    def _models(self, settings: Settings, book: PriceBook, pool: Pool, relay: Relay) -> Catalogue:
        return Catalogue(
            open_catalogue(settings, book),
            keyring=self._keyring,
            pool=pool,
            needs_price=relay.needs_price,
            free_calls=self._free_calls,
            metrics=self.metrics,
            trusted_proxies=[parse_network(text) for text in settings.server.trusted_proxies],
            now=unix_us,
            monotonic=time.monotonic,
        )

    def _data_plane(self, settings: Settings, book: PriceBook, pool: Pool) -> DataPlane:
        """All that hangs on settings, made of one frozen configuration."""
        days = Days(settings.limits.timezone)
        quotas = Quotas(self.limiter, settings.upstreams, unix_us, book.models())
        trusted_proxies = [parse_network(text) for text in settings.server.trusted_proxies]
        intake = self._intake.limited_to(settings.server.max_body_mb << 20)
        relay = Relay(
            keyring=self._keyring,
            pool=pool,
            attempts=self._attempts(),
            intake=intake,
            weigher=Weigher(
                ledger=self.ledger,
                limits=Limits(self.limiter, days, self.metrics, unix_us, self._free_calls),
                quotas=quotas,
                book=book,
                days=days,
                metrics=self.metrics,
                unpriced=self._unpriced,
                refuse_unpriced=settings.gateway.unpriced_models == "refuse",
                hold_worst=settings.limits.hold == "worst",
                drain_after_disconnect_s=settings.gateway.drain_after_disconnect_s,
                now=unix_us,
                monotonic=time.monotonic,
                new_id=self.new_id,
            ),
            metrics=self.metrics,
            trusted_proxies=trusted_proxies,
            monotonic=time.monotonic,
            aliases=_aliases(settings),
        )
        account = Account(
            sources=self._sources,
            keyring=self._keyring,
            limits_in_use=partial(_limits_in_use, self.limiter, days),
            timezone=settings.limits.timezone,
            metrics=self.metrics,
            trusted_proxies=trusted_proxies,
            now=unix_us,
            monotonic=time.monotonic,
        )
        models, images = self._models(settings, book, pool, relay), self._images(settings, relay, intake)
        origins = settings.gateway.cors_origins
        gateway = Gateway(relay, account, models, images, ready=self.is_ready, cors_origins=origins)
        return DataPlane(settings, book, pool, quotas, relay, gateway)

    def _images(self, settings: Settings, relay: Relay, intake: Intake) -> Images:
        fetcher = Fetcher() if settings.images.fetch_urls else None
        easel = Easel(relay, intake, fetcher, time.monotonic)
        return Images(easel, Orders(intake, fetcher), settings.images, unix_us)

    @classmethod
    async def open(cls, settings: Settings, process: Process = ALONE, *, ledger_broke: Callable[[], object]) -> Self:
        """Opens database and ledger, and puts the parts together.

        `ledger_broke` is called once, on the loop, when the ledger file fails: it must end the process. Raises
        StoreError, LedgerLocked, LedgerUnusable, ConfigError, each with a sentence for the operator.
        """
        data_dir = settings.storage.data_dir
        database = open_database(settings.storage)
        book = open_book(settings)
        written = WorkerFiles(data_dir / METRICS, process.slot) if process.gateway and process.locked else None
        metrics = Metrics(__version__, book.models(), data_dir / METRICS if process.locked else None)

        def on_broken(broken: LedgerBroken) -> None:
            log.critical("ledger_broken", why=str(broken), what="breaking off every call and ending")
            ledger_broke()

        try:
            ledger = Ledger.open(
                data_dir,
                process.slot,
                locked=process.locked,
                now_us=unix_us,
                on_broken=on_broken,
                on_commit=metrics.ledger_commit.observe,
                retention_us=settings.storage.retention_days * DAY_US,
            )
        except OSError as error:
            raise LedgerUnusable(
                f"{error.filename or data_dir} can't be used: {error.strerror}. "
                "storage.data_dir names the folder: look at who owns it, and at its disk."
            ) from error
        try:
            limiter = await open_limiter(settings, database, ledger, metrics, unix_us)
            app = cls(settings, database, ledger, limiter, book, metrics, process, written)
            if app._shared:
                await app._shared.start()
            return app
        except BaseException:
            await ledger.close()
            raise

    def gateway(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The ASGI app behind the gateway door, under the configuration in force."""
        return self._plane.gateway(scope, receive, send)

    def configure(self, settings: Settings) -> None:
        """Serves the calls that come from now on under another configuration. Raises ConfigError; then nothing changed.

        An upstream that stays the same keeps its connections. The data folder is the one that it was opened with.
        """
        was = self._plane
        book = open_book(settings)
        pool = open_pool(settings, self._health, (was.settings, was.pool))
        plane = self._data_plane(settings, book, pool)
        plane.relay.draining = was.relay.draining
        self.metrics.know_models(book.models())
        self._plane = plane
        self._planes.append(plane)
        self._tell_upstreams()
        if self._process.control:
            self._events.configure(settings.events)
        retiring = asyncio.get_running_loop().create_task(self._retire(was))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retire(self, plane: DataPlane) -> None:
        """Lets go of what a former configuration had, when its last call has ended."""
        while plane.relay.in_flight:  # noqa: ASYNC110  # it counts for the hot path's sake, and tells nobody
            await asyncio.sleep(1)
        self._planes.remove(plane)
        used = {upstream.transport for other in self._planes for upstream in other.pool.upstreams}
        for upstream in plane.pool.upstreams:
            if upstream.transport not in used:
                await upstream.transport.aclose()

    @property
    def in_flight(self) -> int:
        return sum(plane.relay.in_flight for plane in self._planes)

    def is_ready(self) -> bool:
        """Not "the database answers": an outage of what all nodes share must not take all nodes out."""
        return self.ready and self.ledger.available

    def drain(self) -> None:
        """No new calls from here on; those in flight finish."""
        self.ready = False
        for plane in self._planes:
            plane.relay.draining = True

    async def watch(self) -> None:
        """Follows what commands change, keeps what open calls hold, and tells of events, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keyring.watch())
            group.create_task(self.limiter.watch())
            if self._process.control:
                group.create_task(self._events.watch())
            if self._written is not None:
                group.create_task(self._write_metrics(self._written))
            if self._shared:
                group.create_task(self._shared.follow())

    async def _write_metrics(self, files: WorkerFiles) -> None:
        while True:
            await asyncio.sleep(METRICS_WRITTEN_EVERY_S)
            self.metrics.in_flight.set(self.in_flight)
            # In a thread: a thousand projects have ten thousand values.
            await asyncio.to_thread(files.write)

    async def close(self) -> None:
        """Commits what the ledger still holds, and lets everything go."""
        for retiring in self._retiring:
            retiring.cancel()
        try:
            for transport in {upstream.transport for plane in self._planes for upstream in plane.pool.upstreams}:
                await transport.aclose()
            await self.limiter.close()
            if self._shared:
                await self._shared.close()
        finally:
            try:
                await self.ledger.close()
            finally:
                await self._keyring.close()


async def _limits_in_use(limiter: Limiter, days: Days, tenant: Tenant) -> dict[str, Any]:
    """A key's limits and its project's, as the admin API tells them. Raises ProxyRefused LIMITER_UNAVAILABLE."""
    policy = tenant.policy
    found = counters(tenant.project, tenant.key_id, policy.project_limits, policy.key_limits)
    return await in_use(limiter, tenant.project, Configured(found, {tenant.key_id: tenant.key_name}), days, unix_us())


def _aliases(settings: Settings) -> Aliases | None:
    """Decided once: without any, no call is looked at for them."""
    if not settings.models:
        return None
    return Aliases(settings.model_used, settings.alias_names)
