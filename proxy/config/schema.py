"""What can be configured: one frozen model a section of weighbridge.toml, with its default and its bounds."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    field_validator,
    model_validator,
)

from proxy.config import database_address, limits, redis_address
from proxy.config.addresses import parse_network
from proxy.config.globs import check_glob, is_glob, matcher
from proxy.config.logs import Logs
from proxy.config.section import Section, check_base_url
from proxy.config.tracing import Tracing
from proxy.config.upstreams import Upstream

SHORTEST_RETENTION = 35
"""Days. A month and what may end after it."""

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


def base_url(scheme: str, host: str, port: int) -> str:
    """Where a client on this machine reaches a server that listens on `host` and `port`."""
    here = from_here(host)
    return f"{scheme}://[{here}]:{port}" if ":" in here else f"{scheme}://{here}:{port}"


def from_here(host: str) -> str:
    """The address at which this machine reaches what listens on `host`, which may be all of its addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _origin(origin: str) -> str:
    if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+", origin):
        raise ValueError(f'{origin!r} is no origin: write "https://app.example.com", without a path, or "*"')
    return origin


def _redis_url(url: str) -> str:
    if url:
        redis_address.parse(url)
    return url


def _database_url(url: str) -> str:
    if url:
        database_address.parse(url)
    return url


def _webhook_url(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    if "#" in url or parts.username is not None or parts.password is not None:
        raise ValueError("must have no fragment, and no user name or password: who gets it knows us by the signature")
    check_base_url(url.partition("?")[0])
    return url


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = get_close_matches(name, available_timezones(), n=1)
        raise ValueError(f"is no IANA time zone{f', did you mean {near[0]!r}?' if near else ''}") from None
    return name


def _comma_separated(value: object) -> object:
    """Lists are written with commas in an environment variable."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _semicolon_separated(value: object) -> object:
    """Limits have commas of their own."""
    return [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else value


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(parse_network(text)) for text in texts)


def _retention(days: int) -> int:
    if days and days < SHORTEST_RETENTION:
        raise ValueError(
            f"must be 0, which keeps every record, or at least {SHORTEST_RETENTION}: budgets of a month and a month's "
            "bill are reckoned from its records"
        )
    return days


def _limits(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(limit) for limit in limits.parse_all(texts))


class Server(Section):
    """The two doors, and how they close."""

    host: str = Field("127.0.0.1", min_length=1)
    port: Port = 8080
    admin_host: str = Field("127.0.0.1", min_length=1)
    admin_port: Port = 8081
    workers: int = Field(1, ge=1, le=64)
    """Processes that serve calls. More than one need a Redis to count limits together."""
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    max_body_mb: int = Field(100, ge=1, le=1024)
    drain_seconds: Seconds = 1200
    lame_duck_seconds: Seconds = 10
    keep_alive_seconds: Seconds = 75
    """How long the gateway door keeps a connection without a request."""
    keep_alive_requests: int = Field(0, ge=0, le=1_000_000_000)
    """How many requests it takes on one connection; 0: any number."""
    max_connections: int = Field(10_000, ge=1, le=1_000_000)
    """At once, of each process."""
    max_connections_per_address: int = Field(5_000, ge=1, le=1_000_000)
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(_comma_separated), AfterValidator(_networks)] = ()
    """Networks of proxies before the gateway door, whose `x-forwarded-for` counts."""

    @model_validator(mode="after")
    def _whole(self) -> Server:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: set both, or neither")
        if self.port and (self.host, self.port) == (self.admin_host, self.admin_port):
            raise ValueError("port and admin_port are the same: the two doors need one each")
        return self

    @property
    def base_url(self) -> str:
        """Where a client on this machine reaches the gateway door."""
        return base_url("https" if self.tls_cert else "http", self.host, self.port)


class Storage(Section):
    """Where what is kept is kept. Passwords are never written in the file: they are what references led to."""

    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Path("weighbridge-data")
    database_url: Annotated[str, AfterValidator(_database_url)] = ""
    """PostgreSQL; empty: SQLite, in `data_dir`."""
    database_password_env: str | None = None
    database_password_file: Path | None = None
    database_password: SecretStr | None = None
    redis_url: Annotated[str, AfterValidator(_redis_url)] = ""
    redis_password_env: str | None = None
    redis_password_file: Path | None = None
    redis_ca_file: FilePath | None = None
    redis_password: SecretStr | None = None
    retention_days: Annotated[int, Field(ge=0, le=36_500), AfterValidator(_retention)] = 0
    """How old usage records get before they are removed; hourly sums stay. 0: they are never removed."""

    @property
    def prices_file(self) -> Path:
        """The price book that was taken in place of the package's, if one was."""
        return self.data_dir / "prices.json"

    @model_validator(mode="after")
    def _of_database(self) -> Storage:
        for name in ("database_password_env", "database_password_file"):
            if getattr(self, name) is not None and not self.database_url:
                raise ValueError(f"{name} is set, and database_url is not: it says which PostgreSQL that is for")
        return self

    @model_validator(mode="after")
    def _of_redis(self) -> Storage:
        given = [
            name
            for name in ("redis_password_env", "redis_password_file", "redis_ca_file")
            if getattr(self, name) is not None
        ]
        if given and not self.redis_url:
            raise ValueError(f"{given[0]} is set, and redis_url is not: it says which Redis that is for")
        if self.redis_ca_file and not redis_address.parse(self.redis_url).tls:
            raise ValueError("redis_ca_file is set, and redis_url asks for no TLS: begin it with rediss")
        return self


class Limits(Section):
    """How limits count, and what new projects get. Google's own daily quotas end at midnight Pacific time."""

    timezone: Annotated[str, AfterValidator(_timezone)] = "America/Los_Angeles"
    on_redis_down: Literal["local", "deny"] = "local"
    hold: Literal["typical", "worst"] = "typical"
    """What budgets hold for a call in flight: what such a call usually costs, or what it can cost at most."""
    defaults: Annotated[tuple[str, ...], BeforeValidator(_semicolon_separated), AfterValidator(_limits)] = ()
    """Limits of new projects, as proxy/config/limits.py reads them; `project create` can change them for one."""


class Gateway(Section):
    """How calls are relayed.

    Google's API answers any origin, and the browser SDK relies on it. So does ours by default: a page brings its key in
    a header, and there is no cookie that another page could ride on.
    """

    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...],
        BeforeValidator(_comma_separated),
    ] = ("*",)
    first_byte_timeout_s: Seconds = Field(1200, gt=0)
    drain_after_disconnect_s: Seconds = 1200
    unpriced_models: Literal["record", "refuse"] = "record"


class Events(Section):
    """Who is told of what happens. `webhook_secret` is never written in the file: it is what the reference led to."""

    webhook_url: Annotated[str, AfterValidator(_webhook_url)] = ""
    webhook_secret_env: str | None = None
    webhook_secret_file: Path | None = None
    webhook_secret: SecretStr | None = None

    @model_validator(mode="after")
    def _signed(self) -> Events:
        given = [name for name in ("webhook_secret_env", "webhook_secret_file") if getattr(self, name) is not None]
        if given and not self.webhook_url:
            raise ValueError(f"{given[0]} is set, and webhook_url is not: it says whom that is shared with")
        if self.webhook_url and not given:
            raise ValueError("webhook_url is set, and no secret to sign with: set webhook_secret_env, or _file")
        return self


def _model_id(model: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", model):
        raise ValueError("is no model's id: write one, without models/ and without * ? [ ]")
    return model


class Images(Section):
    """The OpenAI-shaped front."""

    default_model: Annotated[str, AfterValidator(_model_id)] = "gemini-nano-banana-2.1"
    """Of a request that names no model."""
    auto_model: Annotated[str, AfterValidator(_model_id)] = "gemini-nano-banana-2.1"
    """Of one that names "auto"."""
    fetch_urls: bool = False
    """Pictures that a request names by URL are fetched: by https, from public addresses only."""


class Alias(Section):
    """A model that stands in for others: callers who ask for what `match` matches get `use`."""

    match: Annotated[str, AfterValidator(check_glob)]
    """An id, or a glob such as "gemini-2.5-*"."""
    use: Annotated[str, AfterValidator(_model_id)]

    @model_validator(mode="after")
    def _of_another(self) -> Alias:
        if self.match == self.use:
            raise ValueError(f"{self.use} stands in for itself: match another model, or leave this entry out")
        return self

    @property
    def is_glob(self) -> bool:
        return is_glob(self.match)


MAX_USD_PER_MILLION = 1_000
"""So low that the cost of the largest usage fits the ledger's 64-bit integers (proxy/gemini/usage.py)."""

UsdPerMillion = Annotated[Decimal, Field(ge=0, le=MAX_USD_PER_MILLION, decimal_places=9)]
"""Exact: nine decimal places are nano-dollars."""


class Price(Section):
    """Rates of a model that stand before those of the price book, in USD per million tokens."""

    model: str = Field(pattern=r"^[A-Za-z0-9._/*?\[\]!-]+$")
    """An id, or a glob such as "gemini-*-image"."""
    from_: date | None = Field(None, alias="from")
    """The day from whose start, in Los Angeles, the rates are in force; without it they always are."""
    input_text: UsdPerMillion | None = None
    input_image: UsdPerMillion | None = None
    input_audio: UsdPerMillion | None = None
    input_video: UsdPerMillion | None = None
    input_document: UsdPerMillion | None = None
    cached_text: UsdPerMillion | None = None
    cached_image: UsdPerMillion | None = None
    cached_audio: UsdPerMillion | None = None
    cached_video: UsdPerMillion | None = None
    cached_document: UsdPerMillion | None = None
    output_text: UsdPerMillion | None = None
    output_image: UsdPerMillion | None = None
    output_audio: UsdPerMillion | None = None
    output_video: UsdPerMillion | None = None
    search_per_1000: Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)] | None = None
    """USD for a thousand searches that grounding made."""
    maps_per_1000: Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)] | None = None
    """USD for a thousand times that grounding looked places up."""

    @model_validator(mode="after")
    def _some_rate(self) -> Price:
        if not self.model_fields_set - {"model", "from_"}:
            raise ValueError("sets no rate: give at least one, such as output_text = 3.00")
        return self


class Settings(Section):
    """The whole configuration."""

    server: Server = Server()
    storage: Storage = Storage()
    limits: Limits = Limits()
    gateway: Gateway = Gateway()
    images: Images = Images()
    events: Events = Events()
    logs: Logs = Logs()
    tracing: Tracing = Tracing()
    upstreams: tuple[Upstream, ...] = ()
    models: tuple[Alias, ...] = ()
    """Aliases: of those that match a model, the first counts, and once: what it leads to is looked up no further."""
    prices: tuple[Price, ...] = ()

    @model_validator(mode="after")
    def _counted_together(self) -> Settings:
        if self.server.workers > 1 and not self.storage.redis_url:
            raise ValueError(
                f"server.workers is {self.server.workers}, and storage.redis_url is not set: each worker would count "
                "limits and budgets by itself. Set storage.redis_url, or server.workers to 1"
            )
        return self

    @field_validator("upstreams")
    @classmethod
    def _names_differ(cls, upstreams: tuple[Upstream, ...]) -> tuple[Upstream, ...]:
        names = [upstream.name for upstream in upstreams]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"two upstreams are called {min(twice)}: give one another name, for the ledger tells them apart by it"
            )
        return upstreams

    @field_validator("models")
    @classmethod
    def _one_alias_a_match(cls, models: tuple[Alias, ...]) -> tuple[Alias, ...]:
        seen = [alias.match for alias in models]
        for match in seen:
            if seen.count(match) > 1:
                raise ValueError(f"two entries match {match}: keep one, for only the first would ever count")
        return models

    def model_used(self, model: str) -> str:
        """The model that callers get who ask for `model` (ids without "models/"): that itself where it has no alias."""
        return next((alias.use for alias in self.models if matcher(alias.match)(model)), model)

    @property
    def alias_names(self) -> tuple[str, ...]:
        """What has an alias by its own name, and not by a glob's."""
        return tuple(alias.match for alias in self.models if not alias.is_glob)

    @model_validator(mode="after")
    def _one_price_at_a_time(self) -> Settings:
        seen = [(price.model, price.from_) for price in self.prices]
        for model, since in seen:
            if seen.count((model, since)) > 1:
                raise ValueError(f"prices: two entries for {model} from {since or 'the beginning'}: keep one")
        return self
