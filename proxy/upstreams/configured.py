"""From a configuration to the pool that it asks for, and the way to each upstream in it."""

from __future__ import annotations

import ssl

from proxy.config.load import ConfigError
from proxy.config.schema import Settings
from proxy.config.upstreams import Upstream as UpstreamSettings
from proxy.upstreams.health import Health
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.observed import Observed
from proxy.upstreams.pool import Pool
from proxy.upstreams.tls import tls_context
from proxy.upstreams.transport import Timeouts, Transport
from proxy.upstreams.tunnel import ForwardProxy
from proxy.upstreams.upstream import Upstream

ROLE = ("priority", "weight", "models", "projects", "limits")
"""Settings of an upstream that say who goes there, and nothing of the way."""


def open_pool(settings: Settings, health: Health, was: tuple[Settings, Pool] | None = None) -> Pool:
    """All upstreams. Those to which the way stays the same keep their connections, and what is known of them.

    `was` is the configuration before, and its pool. Raises ConfigError.
    """
    timeouts = Timeouts(first_byte=settings.gateway.first_byte_timeout_s)
    before: dict[str, tuple[UpstreamSettings, Upstream]] = {}
    if was is not None and was[0].gateway.first_byte_timeout_s == timeouts.first_byte:
        before = _by_name(*was)
    upstreams, others = [], []
    for one in settings.upstreams:
        known = before.get(one.name)
        if known is not None and _same_way(known[0], one):
            upstreams.append(_upstream(one, known[1].transport, known[1].observed))
        else:
            upstreams.append(_upstream(one, open_transport(one, timeouts)))
            others.append(one.name)
    for name in others:  # when all could be opened: else the configuration before stays in force
        health.forget(name)
    used = {upstream.transport for upstream in upstreams}
    for upstream in was[1].upstreams if was is not None else ():
        upstream.former = upstream.transport not in used
    return Pool(upstreams, health)


def _by_name(settings: Settings, pool: Pool) -> dict[str, tuple[UpstreamSettings, Upstream]]:
    there = {upstream.name: upstream for upstream in pool.upstreams}
    return {one.name: (one, there[one.name]) for one in settings.upstreams}


def _same_way(one: UpstreamSettings, other: UpstreamSettings) -> bool:
    return one.model_copy(update={name: getattr(other, name) for name in ROLE}) == other


def _upstream(settings: UpstreamSettings, transport: Transport, observed: Observed | None = None) -> Upstream:
    upstream = Upstream(
        settings.name,
        settings.base_url,
        settings.auth,
        settings.api_key.get_secret_value(),
        transport,
        priority=settings.priority,
        weight=settings.weight,
        models=settings.models,
        projects=settings.projects,
    )
    upstream.observed = observed or upstream.observed
    return upstream


def open_transport(settings: UpstreamSettings, timeouts: Timeouts) -> Http11Transport:
    """A transport to this upstream, on the running loop. Its certificates are read now. Raises ConfigError."""
    return Http11Transport(
        settings.base_url,
        timeouts=timeouts,
        max_connections=settings.max_connections,
        ssl_context=context_of(settings),
        forward_proxy=ForwardProxy(settings.proxy_url, password_of(settings)) if settings.proxy_url else None,
    )


def context_of(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """Whom to trust, and what to show; None where no TLS is spoken. Raises ConfigError."""
    if not settings.base_url.startswith("https:"):
        return None
    client = None
    if settings.client_cert_file and settings.client_key_file:
        client = str(settings.client_cert_file), str(settings.client_key_file)
    try:
        return tls_context(str(settings.ca_file) if settings.ca_file else None, client)
    except OSError as error:  # they were good when the configuration was read
        why = getattr(error, "reason", None) or error.strerror
        raise ConfigError([f"upstream {settings.name}: its certificate files can't be used any more: {why}"]) from None


def password_of(settings: UpstreamSettings) -> str:
    """For the forward proxy; empty where there is none."""
    return settings.proxy_password.get_secret_value() if settings.proxy_password else ""
