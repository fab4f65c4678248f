"""`weighbridge key`: create, list, revoke."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer

from proxy.app import unix_us
from proxy.cli import options, output
from proxy.cli.options import ConfigOption, JsonOption
from proxy.store.database import open_database
from proxy.tenants import keys
from proxy.tenants.keys import Key

app = options.group("Keys of projects: what clients send in place of a Google API key.")


def fields(key: Key) -> dict[str, Any]:
    """A key as JSON has it."""
    return {
        "id": key.id,
        "project": key.project,
        "name": key.name,
        "masked": key.masked,
        "created_at": output.moment(key.created_at),
        "revoked_at": output.moment(key.revoked_at),
    }


def table(found: list[Key]) -> None:
    """Keys as people read them."""
    rows = [
        (
            key.id,
            key.project,
            key.name,
            key.masked,
            output.moment(key.created_at) or "",
            output.moment(key.revoked_at) or "-",
        )
        for key in found
    ]
    output.table(("ID", "PROJECT", "NAME", "KEY", "CREATED", "REVOKED"), rows)


@app.command()
def create(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project that it belongs to.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it is for: a user, a service.")] = "default",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key of a project. It is shown this once: only its digest is kept.

    Example: `weighbridge key create alice --name notebook`

    In a script: `KEY=$(weighbridge key create alice --json | jq -r .key)`
    """
    settings = options.settings(config)
    database = open_database(settings.storage.data_dir)
    key, secret = keys.create(database, project, name, unix_us(), secrets.randbelow, actor=options.actor())
    if json:
        output.document({"id": key.id, "key": secret, "project": project, "name": name})
        return
    base_url = settings.server.base_url
    output.line(f"{secret}\n")
    output.line(f"Key {key.id} ({name}) of project {project}. It is shown this once: keep it now.")
    output.line("Clients use it as their Gemini API key, with this proxy as base URL. With the official SDKs:\n")
    output.line(f"  export GOOGLE_GEMINI_BASE_URL={base_url} GEMINI_API_KEY={secret}\n")
    output.line("To try it:\n")
    output.line(f'  curl {base_url}/v1beta/models -H "x-goog-api-key: {secret}"')


@app.command("list")
def list_(
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Of this project only.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List the keys of a project, or of all.

    Example: `weighbridge key list alice`
    """
    database = options.database(config)
    found = keys.list_keys(database, project)
    if json:
        output.document([fields(key) for key in found])
    elif found:
        table(found)
    else:
        output.line(f"No key yet in {database.path}. Make one:  weighbridge key create {project or 'PROJECT'}")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The id, as `weighbridge key list` names it.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Refuse a key from within two seconds on, for good. Its records stay.

    Example: `weighbridge key revoke key_3fK9…`
    """
    key = keys.revoke(options.database(config), key_id, unix_us(), actor=options.actor())
    if json:
        output.document(fields(key))
    else:
        output.line(f"Key {key.id} ({key.name}) of project {key.project} is revoked: calls with it are refused.")
