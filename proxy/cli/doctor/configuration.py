"""What is looked at of the configuration: that it can be read, and the certificates that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.certificates import EXPIRES_SOON_DAYS, expires_s, untrusting
from proxy.config.load import ConfigError, Loaded

DAY_S = 86_400


def check_configuration(loaded: Loaded | None, error: ConfigError | None) -> Iterator[Finding]:
    """`loaded` is what could be read of it; with `error`, without upstreams and secrets, if at all."""
    if error is not None:
        for sentence in error.problems:
            yield problem(sentence, "mend it, then run doctor again: what hangs on it isn't looked at")
        return
    assert loaded is not None
    many = len(loaded.settings.upstreams)
    file = loaded.file or "no file: built-in defaults and the environment"
    yield ok(f"{file}; {many} upstream{'s' if many > 1 else ''}")


def check_authorities(environ: Mapping[str, str]) -> Iterator[Finding]:
    """SSL_CERT_FILE, by which upstreams are trusted."""
    if sentence := untrusting(environ):
        what, _, do = sentence.removeprefix("env ").partition(": name ")
        yield problem(what, f"name {do}")
    elif file := environ.get("SSL_CERT_FILE"):
        yield ok(f"SSL_CERT_FILE: {file} stands in place of the system's authorities")


def check_certificate(path: Path, unix_s: float, setting: str = "server.tls_cert") -> Iterator[Finding]:
    """A certificate that we show, at our door or to an upstream: until when it is good."""
    try:
        until = expires_s(path)
    except (OSError, KeyError) as error:
        yield problem(f"{path}: can't be read as a certificate: {error}", f"{setting} is to be a PEM file")
        return
    days = int((until - unix_s) // DAY_S)
    do = "renew it: the server takes a new one from the same file while it runs"
    if until <= unix_s:
        yield problem(f"{path}: expired {int((unix_s - until) // DAY_S)} days ago", do)
    elif days < EXPIRES_SOON_DAYS:
        yield warning(f"{path}: expires in {days} days", do)
    else:
        yield ok(f"{path}: good for {days} more days")
