"""`weighbridge key`: create, list, rotate, revoke."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from proxy.cli import options, output, times
from proxy.cli.options import ConfigOption, JsonOption
from proxy.cli.policy_options import (
    BudgetOption,
    BudgetPeriodOption,
    ConcurrencyOption,
    IpmOption,
    LimitOption,
    ModelsOption,
    RpdOption,
    RpmOption,
    TpmOption,
    changed,
    changes,
    limits_told,
    models_told,
)
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.store.database import open_database
from proxy.tenants import keys
from proxy.tenants.keys import Key
from proxy.tenants.policy import ALL

app = options.group("Keys of projects: what clients send in place of a Google API key.")

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The id, as `weighbridge key list` names it.")]
ExpiresInOption = Annotated[
    str | None,
    typer.Option("--expires-in", metavar="DURATION", help="How long it is served: 30d, 12h.", show_default=False),
]


def fields(key: Key, now: int) -> dict[str, Any]:
    """A key as JSON has it."""
    return {
        "id": key.id,
        "project": key.project,
        "name": key.name,
        "masked": key.masked,
        "state": key.state(now),
        "created_at": output.moment(key.created_at),
        "expires_at": output.moment(key.expires_at),
        "revoked_at": output.moment(key.revoked_at),
        "last_used_at": output.moment(key.last_used_at),
        "rotated_from": key.rotated_from,
        "limits": [str(limit) for limit in key.limits],
        "models": list(key.models),
        "addresses": list(key.addresses),
    }


def table(found: Sequence[Key], now: int, *, of_one_project: bool) -> None:
    """Keys as people read them; below, the options of those that have any."""
    rows = [
        (
            key.id,
            *(() if of_one_project else (key.project,)),
            key.name,
            key.masked,
            _state(key, now),
            output.minute(key.last_used_at, "never"),
        )
        for key in found
    ]
    output.table(
        ("ID", *(() if of_one_project else ("PROJECT",)), "NAME", "KEY", "STATE (UTC)", "LAST USED (UTC)"), rows
    )
    narrowed = [(key, told) for key in found if (told := _narrowed(key))]
    if narrowed:
        output.line()
    for key, told in narrowed:
        output.wrapped(f"{key.id}: {told}")


def _state(key: Key, now: int) -> str:
    if key.revoked_at is not None:
        return f"revoked {output.minute(key.revoked_at)}"
    if key.expires_at is not None:
        return f"{'expired' if key.state(now) == 'expired' else 'until'} {output.minute(key.expires_at)}"
    return "active"


def _narrowed(key: Key) -> str:
    """What a key may not do that its project may."""
    told = [
        f"limits {limits_told(key.limits)}" if key.limits else "",
        f"models {models_told(key.models)}" if key.models != ALL else "",
        f"from {', '.join(key.addresses)}" if key.addresses else "",
    ]
    return " | ".join(filter(None, told))


@app.command()
def create(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project that it belongs to.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it is for: a user, a service.")] = "default",
    expires_in: ExpiresInOption = None,
    models: ModelsOption = None,
    allow_ip: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-ip",
            metavar="CIDR",
            help="An address or network that it may be used from; may be given again. Default: everywhere.",
            show_default=False,
        ),
    ] = None,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    rpd: RpdOption = None,
    ipm: IpmOption = None,
    concurrency: ConcurrencyOption = None,
    budget: BudgetOption = None,
    budget_period: BudgetPeriodOption = None,
    limit: LimitOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key of a project. It is shown this once: only its digest is kept.

    Its limits and models narrow the project's, which hold as well.

    Example: `weighbridge key create alice --name notebook --expires-in 30d --models 'gemini-*-flash*' --rpm 10`

    In a script: `KEY=$(weighbridge key create alice --json | jq -r .key)`
    """
    settings, now = options.settings(config), unix_us()
    asked = changes(limit, budget, budget_period, rpm=rpm, tpm=tpm, rpd=rpd, ipm=ipm, concurrency=concurrency)
    key, secret = keys.create(
        open_database(settings.storage),
        project,
        name,
        now,
        secrets.randbelow,
        actor=options.actor(),
        expires_at=_expiry(expires_in, now),
        models=models or ALL,
        addresses=allow_ip or (),
        limits=changed((), asked),
    )
    if json:
        output.document(_with_secret(key, secret, now))
        return
    _show_once(key, secret, settings)
    base_url = settings.server.base_url
    output.line("To try it:\n")
    output.line(f'  curl {base_url}/v1beta/models -H "x-goog-api-key: {secret}"')


def _expiry(expires_in: str | None, now: int) -> int | None:
    return None if expires_in is None else now + times.duration(expires_in)


def _with_secret(key: Key, secret: str, now: int) -> dict[str, Any]:
    return {"id": key.id, "key": secret, "project": key.project, "name": key.name, **fields(key, now)}


def _show_once(key: Key, secret: str, settings: Settings) -> None:
    output.line(f"{secret}\n")
    output.line(f"Key {key.id} ({key.name}) of project {key.project}. It is shown this once: keep it now.")
    if key.expires_at is not None:
        output.line(f"It expires at {output.minute(key.expires_at)} UTC.")
    if told := _narrowed(key):
        output.wrapped(f"It is narrowed to: {told}")
    output.line("Clients use it as their Gemini API key, with this proxy as base URL. With the official SDKs:\n")
    output.line(f"  export GOOGLE_GEMINI_BASE_URL={settings.server.base_url} GEMINI_API_KEY={secret}\n")


@app.command("list")
def list_(
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Of this project only.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List the keys of a project, or of all: their state, when they were last used, what they may do.

    Example: `weighbridge key list alice`
    """
    database = options.database(config)
    found, now = keys.list_keys(database, project), unix_us()
    if json:
        output.document([fields(key, now) for key in found])
    elif found:
        table(found, now, of_one_project=project is not None)
    else:
        output.line(f"No key yet in {database}. Make one:  weighbridge key create {project or 'PROJECT'}")


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str,
        typer.Option("--overlap", metavar="DURATION", help="How long the old key is served on: 1h, 7d; 0: not at all."),
    ] = "1h",
    expires_in: ExpiresInOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a new key with the same options in a key's place. The old one is served until the overlap ends.

    The new one expires when the old one was to, unless --expires-in is given.

    Example: `weighbridge key rotate key_3fK9… --overlap 7d`
    """
    settings, now = options.settings(config), unix_us()
    old, new, secret = keys.rotate(
        open_database(settings.storage),
        key_id,
        now,
        secrets.randbelow,
        actor=options.actor(),
        overlap=times.duration(overlap),
        expires_at=_expiry(expires_in, now),
    )
    if json:
        output.document(_with_secret(new, secret, now) | {"old": fields(old, now)})
        return
    _show_once(new, secret, settings)
    if old.state(now) == "expired":
        output.line(f"The old key, {old.id}, is refused from within two seconds on.")
    else:
        output.line(f"The old key, {old.id}, is served until {output.minute(old.expires_at)} UTC.")


@app.command()
def revoke(key_id: KeyId, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Refuse a key from within two seconds on, for good. Its records stay.

    Example: `weighbridge key revoke key_3fK9…`
    """
    key = keys.revoke(options.database(config), key_id, unix_us(), actor=options.actor())
    if json:
        output.document(fields(key, unix_us()))
    else:
        output.line(f"Key {key.id} ({key.name}) of project {key.project} is revoked: calls with it are refused.")
