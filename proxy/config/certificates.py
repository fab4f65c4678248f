"""Certificates that the configuration names: the gateway door's own, and those that upstreams are trusted by."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path


def check_pair(certificate: Path, key: Path) -> None:
    """Whether a door can serve with them. Raises ValueError with a sentence for the operator."""
    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Lets a server's context show this certificate from now on, also one that is in use. Raises as `check_pair`.

    A pair that doesn't fit leaves the context without any: check it first.
    """
    try:
        context.load_cert_chain(certificate, key, password="")  # without one, OpenSSL would ask on the terminal
    except OSError as error:  # ssl.SSLError is one
        why = getattr(error, "reason", None) or error.strerror
        raise ValueError(
            f"server.tls_cert, server.tls_key: {certificate} and {key} can't be used: {why}. They are to be PEM files: "
            "the certificate with its chain, and the key that belongs to it, without a passphrase"
        ) from None


def untrusting(environ: Mapping[str, str]) -> str | None:
    """A warning where SSL_CERT_FILE leads to no certificate, which OpenSSL itself passes over in silence."""
    file = environ.get("SSL_CERT_FILE")
    if not file:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        why = "it holds no certificate (PEM)"
    except OSError as error:
        why = f"it can't be read: {error.strerror}"
    else:
        return None
    return (
        f"env SSL_CERT_FILE: {file}: {why}; so no upstream's certificate can be trusted by it: "
        "name the file that holds the authority's certificate, or unset the variable"
    )
