"""From an upstream's settings to the transport that they ask for."""

from __future__ import annotations

import ssl

from proxy.config.load import ConfigError
from proxy.config.schema import Upstream
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.tls import tls_context
from proxy.upstreams.transport import Timeouts
from proxy.upstreams.tunnel import ForwardProxy


def open_transport(settings: Upstream, timeouts: Timeouts) -> Http11Transport:
    """A transport to this upstream, on the running loop. Its certificates are read now. Raises ConfigError."""
    return Http11Transport(
        settings.base_url,
        timeouts=timeouts,
        max_connections=settings.max_connections,
        ssl_context=context_of(settings),
        forward_proxy=ForwardProxy(settings.proxy_url, password_of(settings)) if settings.proxy_url else None,
    )


def context_of(settings: Upstream) -> ssl.SSLContext | None:
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


def password_of(settings: Upstream) -> str:
    """For the forward proxy; empty where there is none."""
    return settings.proxy_password.get_secret_value() if settings.proxy_password else ""
