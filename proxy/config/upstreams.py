"""What can be configured of one upstream: a [[upstreams]] of weighbridge.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    FilePath,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from proxy.config import quotas
from proxy.config.globs import check_glob
from proxy.config.section import Section, check_base_url
from proxy.config.stamps import Stamp, stamp

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
NAME_RULE = "should be 1 to 63 lower-case letters, digits, - and _, and begin with a letter or digit"
TLS_FILES = ("ca_file", "client_cert_file", "client_key_file")
"""Settings of an upstream that fit https only."""

GOOGLE = "https://generativelanguage.googleapis.com"


def _proxy_url(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    if parts.password is not None:
        raise ValueError(
            "must not hold a password: put it into an environment variable and write "
            'proxy_password_env = "ITS_NAME", or into a file of mode 0600 and write proxy_password_file = "its path"'
        )
    if parts.scheme != "http":
        raise ValueError("must be an http:// URL: what goes through the proxy has its own TLS, the way to it has none")
    check_base_url(url.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1) if "@" in parts.netloc else url)
    if parts.path.strip("/"):
        raise ValueError("must end with its port: a proxy has no path")
    if not re.fullmatch(r"[!-9;-~]*", unquote(parts.username or "")):
        raise ValueError("has a user name that can't be one: printable ASCII without spaces and colons")
    return url.rstrip("/")


def _globs(globs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(check_glob, globs))


class Upstream(Section):
    """One credential, its base URL and the way there.

    `api_key` and `proxy_password` are never written in the file: they are what the references led to.
    """

    name: str = Field(pattern=NAME_PATTERN)
    base_url: Annotated[str, AfterValidator(check_base_url)] = GOOGLE
    api_key_env: str | None = None
    api_key_file: Path | None = None
    api_key: SecretStr
    auth: Literal["x-goog-api-key", "bearer"] = "x-goog-api-key"
    max_connections: int = Field(1000, ge=1, le=100_000)
    priority: int = Field(0, ge=0, le=100)
    """Those of the lowest number serve; the next only while none of them can."""
    weight: int = Field(1, ge=1, le=100)
    """Its share of the calls among those of its priority."""
    models: Annotated[tuple[str, ...], AfterValidator(_globs)] = Field(("*",), min_length=1)
    projects: tuple[Annotated[str, Field(pattern=r"^[a-z0-9*?\[\]!_-]+$")], ...] = Field(("*",), min_length=1)
    """Globs: whose calls of which models it serves."""
    limits: Annotated[quotas.Quota, PlainValidator(quotas.parse), PlainSerializer(str, str)] = quotas.NO_QUOTA
    """Its own quota. A model's stands in a table by a glob, before the general one."""
    ca_file: FilePath | None = None
    """Authorities that are trusted in place of the system's."""
    client_cert_file: FilePath | None = None
    client_key_file: FilePath | None = None
    proxy_url: Annotated[str, AfterValidator(_proxy_url)] = ""
    proxy_password_env: str | None = None
    proxy_password_file: Path | None = None
    proxy_password: SecretStr | None = None
    _tls_files: tuple[Stamp, ...] = PrivateAttr(())
    """Makes another upstream of one whose certificates were renewed under the same names."""

    @model_validator(mode="after")
    def _way_there(self) -> Upstream:
        files = {name: getattr(self, name) for name in TLS_FILES if getattr(self, name) is not None}
        if files and urlsplit(self.base_url).scheme != "https":
            raise ValueError(f"{next(iter(files))} is set, and base_url asks for no TLS: begin it with https")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file go together: set both, or neither")
        if self.proxy_password is not None and "@" not in urlsplit(self.proxy_url).netloc:
            raise ValueError(
                'a password is set, and proxy_url says not whose: write proxy_url = "http://USER@HOST:PORT"'
            )
        self._tls_files = tuple(map(stamp, files.values()))
        return self
