"""Certificates that the configuration names: the gateway door's own, and those of upstreams, theirs and ours."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.config.upstreams import Upstream

AS_IT_SHOULD_BE = (
    "They are to be PEM files: the certificate with its chain, and the key that belongs to it, without a passphrase"
)


def check_pair(certificate: Path, key: Path) -> None:
    """Whether a door can serve with them. Raises ValueError with a sentence for the operator."""
    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Lets a server's context show this certificate from now on, also one that is in use. Raises as `check_pair`.

    A pair that doesn't fit leaves the context without any: check it first.
    """
    if why := _unloadable(context, certificate, key):
        raise ValueError(
            f"server.tls_cert, server.tls_key: {certificate} and {key} can't be used: {why}. {AS_IT_SHOULD_BE}"
        )


def wrong_files(upstream: Upstream) -> Iterator[tuple[str, str]]:
    """Which setting of an upstream names files that TLS can't be spoken with, and a sentence for the operator."""
    if upstream.ca_file and (why := _no_authority(upstream.ca_file)):
        yield "ca_file", f"{upstream.ca_file}: {why}: it is to hold the certificates of authorities to trust"
    certificate, key = upstream.client_cert_file, upstream.client_key_file
    if certificate and key:
        why = _unloadable(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)
        if why:
            yield "client_cert_file", f"{certificate} and {key} can't be used: {why}. {AS_IT_SHOULD_BE}"


def untrusting(environ: Mapping[str, str]) -> str | None:
    """A warning where SSL_CERT_FILE leads to no certificate, which OpenSSL itself passes over in silence."""
    file = environ.get("SSL_CERT_FILE")
    if not file or not (why := _no_authority(Path(file))):
        return None
    return (
        f"env SSL_CERT_FILE: {file}: {why}; so no upstream's certificate can be trusted by it: "
        "name the file that holds the authority's certificate, or unset the variable"
    )


def _unloadable(context: ssl.SSLContext, certificate: Path, key: Path) -> str | None:
    """Why a context can't show this pair; None where it does from now on."""
    try:
        context.load_cert_chain(certificate, key, password="")  # without one, OpenSSL would ask on the terminal
    except OSError as error:  # ssl.SSLError is one
        return str(getattr(error, "reason", None) or error.strerror)
    return None


def _no_authority(file: Path) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        return "it holds no certificate (PEM)"
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    return None
