"""Composition root: Settings → the two ASGI apps. With data_plane.py and control_plane.py it knows all parts."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self

import structlog

from proxy import __version__
from proxy.billing.configured import open_book
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken, LedgerUnusable
from proxy.billing.orphans import close_out_orphans
from proxy.billing.periods import DAY_US, GOOGLES_ZONE, Days
from proxy.billing.prices import PriceBook
from proxy.billing.records import id_maker
from proxy.billing.shipped_mark import stay_us
from proxy.billing.sources import Sources
from proxy.billing.unpriced import Unpriced
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.control_plane import ControlPlane
from proxy.data_plane import DataPlane, Parts, data_plane
from proxy.errors import Refusal
from proxy.gateway import in_flight
from proxy.gateway.intake import Intake
from proxy.limiter import open_limiter, redis_of
from proxy.limits.interface import Limiter
from proxy.process import ALONE, Process
from proxy.store.database import Database, open_database
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.multiprocess import ProcessFiles
from proxy.tenants import disabled_upstreams
from proxy.tenants.keyring import Keyring
from proxy.upstreams.configured import open_pool
from proxy.upstreams.health import Health

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from proxy.telemetry.tracing import Tracing
    from proxy.upstreams.shared_health import SharedHealth

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


METRICS = "metrics"
"""The folder in data_dir where each of several processes writes its own."""
METRICS_WRITTEN_EVERY_S = 1.0


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
        written: ProcessFiles | None,
    ) -> None:
        """Puts the parts together. Use `open`."""
        self.ready = False
        self._process = process
        self._written = written
        self.ledger = ledger
        self.limiter = limiter
        self.metrics = metrics
        self.new_id = id_maker(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)
        self._google_days = Days(GOOGLES_ZONE)
        self._health = Health(time.monotonic, random.random, self._midnight_s, metrics.upstream_changed)
        self._health.disable(disabled_upstreams.list_disabled(database))
        self._keyring = Keyring(database, now=unix_us, monotonic=time.monotonic, disable_upstreams=self._health.disable)
        self._shared = self._share(settings)
        self._parts = Parts(
            ledger=ledger,
            sources=Sources.of(settings.storage, database),
            limiter=limiter,
            metrics=metrics,
            keyring=self._keyring,
            health=self._health,
            shared_health=self._shared,
            intake=Intake(settings.storage.data_dir / "spool", limit=settings.server.max_body_mb << 20),
            free_calls=in_flight.free_calls(),
            unpriced=Unpriced(),
            new_id=self.new_id,
            ready=self.is_ready,
        )
        self._plane = data_plane(
            self._parts, settings, book, open_pool(settings, self._health), self._trace(settings, None)
        )
        self._planes = [self._plane]
        self._tell_upstreams()
        self._retiring: set[asyncio.Task[None]] = set()
        metrics.look_before(lambda: metrics.models_out(self._health.models_out()))
        if written is None:
            metrics.in_flight.set_function(lambda: self.in_flight)
        self.control: ControlPlane | None = None
        if process.control:
            metrics.watch_disk(settings.storage.data_dir)
            owned = process.owned(settings.server.workers)
            self.control = ControlPlane(self._parts, database, settings, owned, lambda: self._plane)

    def _tell_upstreams(self) -> None:
        """Metrics name those of the configuration in force, and no others."""
        names = [one.name for one in self._plane.pool.upstreams]
        self.metrics.know_upstreams({name: self._health.available(name) for name in names})

    def _midnight_s(self) -> float:
        """Until Google's daily quotas begin anew."""
        now = unix_us()
        return (self._google_days.end(now) - now) / 1_000_000

    def _share(self, settings: Settings) -> SharedHealth | None:
        """Outages are shared where there is a Redis."""
        if not settings.storage.redis_url:
            return None
        # Imported here: see limiter.py.
        from proxy.upstreams.news_stream import FOLLOW_TIMEOUT_S, NewsStream
        from proxy.upstreams.shared_health import SharedHealth

        stream = NewsStream(redis_of(settings.storage), redis_of(settings.storage, FOLLOW_TIMEOUT_S))
        return SharedHealth(stream, self._health, lambda: self._plane.pool.upstreams, self.new_id())

    def _trace(self, settings: Settings, was: DataPlane | None) -> Tracing | None:
        """What makes spans and sends them, where a collector is named: the same, as long as its settings are. Raises
        ConfigError."""
        if not (settings.tracing.otlp_endpoint and self._process.gateway):
            return None
        if was is not None and was.settings.tracing == settings.tracing:
            return was.tracing
        # Imported here: what has no traces has no OpenTelemetry.
        from proxy.telemetry.tracing import Tracing

        return Tracing(settings.tracing, __version__, self.new_id())

    @classmethod
    async def open(cls, settings: Settings, process: Process = ALONE, *, ledger_broke: Callable[[], object]) -> Self:
        """Opens database and ledger, and puts the parts together.

        `ledger_broke` is called once, on the loop, when the ledger file fails: it must end the process. Raises
        StoreError, LedgerLocked, LedgerUnusable, ConfigError, each with a sentence for the operator.
        """
        data_dir = settings.storage.data_dir
        database = open_database(settings.storage)
        book = open_book(settings)
        written = ProcessFiles(data_dir / METRICS, process.slot) if process.locked else None
        metrics = Metrics(
            __version__,
            book.models(),
            data_dir / METRICS if process.locked else None,
            written,
        )

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
                retention_us=_retention_us(settings, database),
                shipped=database.postgresql,
            )
        except OSError as error:
            raise LedgerUnusable(
                f"{error.filename or data_dir} can't be used: {error.strerror}. "
                "storage.data_dir names the folder: look at who owns it, and at its disk."
            ) from error
        try:
            orphans = None
            if process.control:
                orphans = close_out_orphans(data_dir, process.owned(settings.server.workers), unix_us())
            limiter = await open_limiter(settings, database, ledger, orphans, metrics, unix_us)
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

    def tell_refusal(self, refusal: Refusal, request_id: str) -> None:
        """What a door refuses before it reaches the relay is counted and logged like all else."""
        self.metrics.refused("", refusal.reason.word)
        self._plane.access.tell_refused(refusal, request_id)

    def configure(self, settings: Settings) -> None:
        """Serves the calls that come from now on under another configuration. Raises ConfigError; then nothing changed.

        An upstream that stays the same keeps its connections. The data folder is the one that it was opened with.
        """
        was = self._plane
        book = open_book(settings)
        pool = open_pool(settings, self._health, (was.settings, was.pool))
        plane = data_plane(self._parts, settings, book, pool, self._trace(settings, was))
        plane.relay.draining = was.relay.draining
        self.metrics.know_models(book.models())
        self._plane = plane
        self._planes.append(plane)
        self._tell_upstreams()
        if self.control is not None:
            self.control.configure(settings)
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
        if plane.tracing is not None and all(plane.tracing is not other.tracing for other in self._planes):
            await plane.tracing.close()

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
            if self.control is not None:
                group.create_task(self.control.watch())
            if self._written is not None:
                group.create_task(self._write_metrics(self._written))
            if self._shared:
                group.create_task(self._shared.follow())

    async def _write_metrics(self, files: ProcessFiles) -> None:
        def write() -> None:
            self.metrics.look()
            files.write()

        while True:
            await asyncio.sleep(METRICS_WRITTEN_EVERY_S)
            self.metrics.in_flight.set(self.in_flight)
            # In a thread: a thousand projects have ten thousand values.
            await asyncio.to_thread(write)

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
                if self.control is not None:
                    await self.control.close()
            finally:
                await self._keyring.close()
                for tracing in {plane.tracing for plane in self._planes if plane.tracing is not None}:
                    await tracing.close()


def _retention_us(settings: Settings, database: Database) -> int:
    """How old records get in the ledger file; 0: they stay. Those that were shipped are kept elsewhere."""
    if database.postgresql:
        return stay_us(settings.limits.timezone)
    return settings.storage.retention_days * DAY_US
