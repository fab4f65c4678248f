"""The data plane: all that serves calls under one configuration, put together of what outlives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.billing.configured import open_catalogue
from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.sources import Sources
from proxy.billing.unpriced import Unpriced
from proxy.clock import unix_us
from proxy.config.addresses import Network, parse_network
from proxy.config.schema import Settings
from proxy.control.admin.limits import Configured, in_use
from proxy.gateway.access import Access
from proxy.gateway.account import Account
from proxy.gateway.ended import Ended
from proxy.gateway.images.catalogue import Catalogue
from proxy.gateway.images.drawing import Easel
from proxy.gateway.images.fetch import Fetcher
from proxy.gateway.images.front import Images
from proxy.gateway.images.order import Orders
from proxy.gateway.in_flight import InFlight
from proxy.gateway.intake import Intake
from proxy.gateway.limiting import Limits
from proxy.gateway.quotas import Quotas
from proxy.gateway.relay import Relay
from proxy.gateway.routes import Gateway
from proxy.gateway.weigher import Weigher
from proxy.gemini.aliases import Aliases
from proxy.limits.interface import Limiter, counters
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from proxy.upstreams.attempts import Attempts
from proxy.upstreams.health import Health
from proxy.upstreams.pool import Pool

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from proxy.telemetry.tracing import Tracing
    from proxy.upstreams.shared_health import SharedHealth


class DataPlane(NamedTuple):
    """What serves calls under one configuration. A reload makes another; calls end on the one that they began on."""

    settings: Settings
    book: PriceBook
    pool: Pool
    quotas: Quotas
    access: Access
    relay: Relay
    gateway: ASGIApp
    tracing: Tracing | None


class Parts(NamedTuple):
    """What all calls of a process share, whatever configuration they are served under."""

    ledger: Ledger
    sources: Sources
    limiter: Limiter
    metrics: Metrics
    keyring: Keyring
    health: Health
    shared_health: SharedHealth | None
    intake: Intake
    free_calls: InFlight
    unpriced: Unpriced
    new_id: Callable[[], str]
    ready: Callable[[], bool]


def data_plane(
    parts: Parts, settings: Settings, book: PriceBook, pool: Pool, tracing: Tracing | None = None
) -> DataPlane:
    """All that hangs on settings, made of one frozen configuration. Without `tracing`, nothing in it knows of any."""
    attempting, ending = _kinds(tracing)
    days = Days(settings.limits.timezone)
    quotas = Quotas(parts.limiter, settings.upstreams, unix_us, book.models())
    intake = parts.intake.limited_to(settings.server.max_body_mb << 20)
    access = Access(told=settings.logs.access, sample_successes=settings.logs.sample_successes)
    shared, ended = parts.shared_health, ending(parts.metrics, access, time.monotonic)
    relay = Relay(
        keyring=parts.keyring,
        pool=pool,
        attempts=attempting(
            parts.health, parts.metrics, time.monotonic, *((shared.claim, shared.release) if shared else ())
        ),
        intake=intake,
        weigher=_weigher(parts, settings, book, days, quotas),
        metrics=parts.metrics,
        ended=ended,
        trusted_proxies=_trusted_proxies(settings),
        monotonic=time.monotonic,
        aliases=_aliases(settings),
    )
    gateway: ASGIApp = Gateway(
        relay,
        _account(parts, settings, days, ended),
        _models(parts, settings, book, pool, relay, ended),
        _images(settings, relay, intake),
        ready=parts.ready,
        cors_origins=settings.gateway.cors_origins,
    )
    if tracing is not None:
        from proxy.gateway.traced import TracedGateway

        gateway = TracedGateway(gateway, tracing)
    return DataPlane(settings, book, pool, quotas, access, relay, gateway, tracing)


def _kinds(tracing: Tracing | None) -> tuple[type[Attempts], type[Ended]]:
    if tracing is None:
        return Attempts, Ended
    # Imported here: what has no traces has no OpenTelemetry.
    from proxy.gateway.traced import TracedAttempts, TracedEnded

    return TracedAttempts, TracedEnded


def _weigher(parts: Parts, settings: Settings, book: PriceBook, days: Days, quotas: Quotas) -> Weigher:
    return Weigher(
        ledger=parts.ledger,
        limits=Limits(parts.limiter, days, parts.metrics, unix_us, parts.free_calls),
        quotas=quotas,
        book=book,
        days=days,
        metrics=parts.metrics,
        unpriced=parts.unpriced,
        refuse_unpriced=settings.gateway.unpriced_models == "refuse",
        hold_worst=settings.limits.hold == "worst",
        drain_after_disconnect_s=settings.gateway.drain_after_disconnect_s,
        now=unix_us,
        monotonic=time.monotonic,
        new_id=parts.new_id,
    )


def _account(parts: Parts, settings: Settings, days: Days, ended: Ended) -> Account:
    return Account(
        sources=parts.sources,
        keyring=parts.keyring,
        limits_in_use=partial(_limits_in_use, parts.limiter, days),
        timezone=settings.limits.timezone,
        metrics=parts.metrics,
        ended=ended,
        trusted_proxies=_trusted_proxies(settings),
        now=unix_us,
        monotonic=time.monotonic,
    )


def _models(parts: Parts, settings: Settings, book: PriceBook, pool: Pool, relay: Relay, ended: Ended) -> Catalogue:
    return Catalogue(
        open_catalogue(settings, book),
        keyring=parts.keyring,
        pool=pool,
        needs_price=relay.needs_price,
        free_calls=parts.free_calls,
        metrics=parts.metrics,
        ended=ended,
        trusted_proxies=_trusted_proxies(settings),
        now=unix_us,
        monotonic=time.monotonic,
    )


def _images(settings: Settings, relay: Relay, intake: Intake) -> Images:
    fetcher = Fetcher() if settings.images.fetch_urls else None
    easel = Easel(relay, intake, fetcher, time.monotonic)
    return Images(easel, Orders(intake, fetcher), settings.images, unix_us)


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


def _trusted_proxies(settings: Settings) -> list[Network]:
    return [parse_network(text) for text in settings.server.trusted_proxies]
