"""The command: which checks there are, and how their findings are printed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from proxy.billing.ledger_slot import owner_of
from proxy.cli import options
from proxy.cli.doctor import aliases, configuration, files, machine, pool, price_books, stores, upstreams, webhooks
from proxy.cli.doctor.assumptions.command import try_assumptions
from proxy.cli.doctor.findings import Check, Finding, examine, tell
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.config.load import ConfigError, Loaded, read
from proxy.config.schema import Settings, Storage
from proxy.config.upstreams import Upstream
from proxy.telemetry.redaction import redact

TO_BE_RETIRED = "-preview"
"""How ids end that Google gives up sooner or later: nobody is told that they are missing."""


app = options.alone()


@app.command()
def doctor(
    assumptions: Annotated[
        bool,
        typer.Option("--assumptions", help="Instead: try by calls that cost money what Google doesn't document."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --assumptions: make the calls without asking.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Look at everything that a server needs, and say what to do. Changes nothing, and costs nothing.

    Works while a server runs, before the first start, and where nothing works. Ends with 1 if there is a problem, with
    0 if there are warnings only. With --assumptions it says first what that will cost, and asks.

    Example: `weighbridge doctor --config /etc/weighbridge.toml`
    """
    if assumptions:
        settings = read(config, os.environ).settings
        if not try_assumptions(settings, _hider(settings), yes=yes, json=json):
            raise typer.Exit(1)
        return
    if yes:
        raise CommandError("--yes goes with --assumptions: nothing else that doctor does is to be agreed to")
    loaded, error = _read(config, os.environ)
    found = examine(_checks(loaded, error, os.environ))
    hide = _hider(loaded.settings if loaded else None)
    told = [
        (name, Finding(finding.verdict, hide(finding.what), hide(finding.do)))
        for name, findings in found.items()
        for finding in findings
    ]
    if not tell(told, json=json):
        raise typer.Exit(1)


def _read(config: Path | None, environ: Mapping[str, str]) -> tuple[Loaded | None, ConfigError | None]:
    """The configuration; where it can't be used, its error, and as much of it as can be read without secrets."""
    try:
        return read(config, environ), None
    except ConfigError as error:
        try:
            return read(config, environ, upstreams=False), error
        except ConfigError:
            return None, error


def _checks(loaded: Loaded | None, error: ConfigError | None, environ: Mapping[str, str]) -> dict[str, Check]:
    checks: dict[str, Check] = {
        "configuration": partial(configuration.check_configuration, loaded, error),
        "authorities": partial(configuration.check_authorities, environ),
    }
    if loaded is None:
        return checks
    settings, data_dir = loaded.settings, loaded.settings.storage.data_dir
    server, owner = settings.server, cache(partial(owner_of, data_dir / "ledger"))
    for upstream in settings.upstreams:
        checks[f"upstream {upstream.name}"] = partial(_check_upstream, upstream, settings)
    if settings.upstreams:
        checks["upstreams"] = partial(pool.check_pool, settings.upstreams, settings.storage)
    checks |= {
        "price book": partial(price_books.check_price_book, settings.storage.prices_file),
        "database": _check_of_database(settings.storage),
        "ledger": partial(stores.check_ledger, data_dir, owner),
        "disk": partial(files.check_disk, data_dir),
        "file modes": partial(files.check_modes, settings, loaded.file),
        "time zone": partial(machine.check_time_zone, settings.limits.timezone, datetime.now(UTC).date()),
        "doors": partial(machine.check_doors, server, owner),
    }
    if settings.models:
        checks["aliases"] = partial(aliases.check_aliases, settings)
    if settings.upstreams:
        calls = sum(each.max_connections for each in settings.upstreams)
        checks["open files"] = partial(machine.check_open_files, calls)
    if settings.storage.redis_url:
        from proxy.cli.doctor import redis_servers  # not before: loading redis-py takes a tenth of a second

        checks["redis"] = partial(redis_servers.check_redis, settings.storage, time.time)
    if settings.events.webhook_url:
        checks["webhook"] = partial(webhooks.check_webhook, settings.events, settings.storage, time.time)
    for upstream in settings.upstreams:
        if upstream.client_cert_file is not None:
            checks[f"certificate {upstream.name}"] = partial(
                configuration.check_certificate, upstream.client_cert_file, time.time(), "upstreams.client_cert_file"
            )
    if server.tls_cert is not None:
        checks["certificate"] = partial(configuration.check_certificate, server.tls_cert, time.time())
    return checks


def _check_of_database(storage: Storage) -> Check:
    if not storage.database_url:
        return partial(stores.check_database, storage.data_dir)
    from proxy.cli.doctor import postgres_server  # not before: loading psycopg takes a tenth of a second

    return partial(postgres_server.check_postgres, storage, time.time)


def _check_upstream(upstream: Upstream, settings: Settings) -> Iterable[Finding]:
    return upstreams.check_upstream(upstream, _wanted_models(settings), time.time)


def _wanted_models(settings: Settings) -> list[str]:
    """Those that prices are configured for, that aliases lead to, and that the price book draws pictures with."""
    book = price_books.in_force(settings)
    now = time.time_ns() // 1000
    configured = {price.model.removeprefix("models/") for price in settings.prices}
    wanted = list(dict.fromkeys(alias.use for alias in settings.models))
    for model in book.models():
        table = book.rates_at(model, now)
        draws = table is not None and table.is_image_model and not model.endswith(TO_BE_RETIRED)
        if (model in configured or draws) and model not in wanted:
            wanted.append(model)
    return wanted


def _hider(settings: Settings | None) -> Callable[[str], str]:
    """Takes out of a text what is secret by its shape, and the secrets of this configuration, whatever their shape."""
    secrets = [upstream.api_key for upstream in settings.upstreams] if settings else []
    if settings:
        secrets += [each.proxy_password for each in settings.upstreams if each.proxy_password]
        storage, events, tracing = settings.storage, settings.events, settings.tracing
        secrets += filter(
            None, (storage.database_password, storage.redis_password, events.webhook_secret, tracing.headers)
        )

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret.get_secret_value(), str(SecretStr("any")))
        return redact(text)

    return hide
