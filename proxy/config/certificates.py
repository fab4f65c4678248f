"""Certificates that the configuration names: the gateway door's own, and those of upstreams, theirs and ours."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.config.upstreams import Upstream

AS_IT_SHOULD_BE = (
    "They are to be PEM files: the certificate with its chain, and the key that belongs to it, without a passphrase"
)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: with forward secrecy and authenticated. Those of 1.3 all are."""
EXPIRES_SOON_DAYS = 14


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a door speaks TLS with: 1.2 or newer, HTTP/1.1 inside it, and this certificate whatever name is asked for.

    A context in use is never given another certificate: one that doesn't fit would leave it without any. Raises
    ValueError with a sentence for the operator.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if why := _unloadable(context, certificate, key):
        raise ValueError(
            f"server.tls_cert, server.tls_key: {certificate} and {key} can't be used: {why}. {AS_IT_SHOULD_BE}"
        )
    return context


def expires_s(certificate: Path) -> float:
    """Until when, in Unix time, the file's first certificate is good. Raises OSError, KeyError."""
    # Python's one decoder of certificates; cryptography would be a dependency for the sake of a date.
    decoded = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]
    return ssl.cert_time_to_seconds(str(decoded["notAfter"]))


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
