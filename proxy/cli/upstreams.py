"""`weighbridge upstreams`: list, disable, enable."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from proxy.app import unix_us
from proxy.cli import control, options, output
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.config.schema import Settings
from proxy.store.database import Database, open_database
from proxy.telemetry.logs import redact
from proxy.tenants import disabled_upstreams

app = options.group("Upstreams: how they are, and which are to be asked.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called in the configuration.")]


@app.command()
def disable(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Send no more calls to an upstream, from within two seconds on. Those in flight there finish.

    It stays so over reloads and restarts: `weighbridge upstreams enable` is the way back.

    Example: `weighbridge upstreams disable google-2`
    """
    settings = options.settings_and_upstreams(config)
    names = _names(settings, name)
    if name not in names:
        raise CommandError(_unknown(name, names))
    database = open_database(settings.storage.data_dir)
    since = disabled_upstreams.disable(database, name, unix_us(), actor=options.actor())
    if json:
        output.document({"name": name, "disabled_at": output.moment(since)})
    else:
        output.line(f"Upstream {name} is disabled: calls go to the others. Those in flight there finish.")
    _warn_of_none(database, names)


@app.command()
def enable(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Have a disabled upstream asked again, from within two seconds on.

    Also one that the configuration lists no more.

    Example: `weighbridge upstreams enable google-2`
    """
    settings = options.settings_and_upstreams(config)
    database = open_database(settings.storage.data_dir)
    was_disabled = disabled_upstreams.enable(database, name, unix_us(), actor=options.actor())
    names = _names(settings, name)
    if not was_disabled and name not in names:
        raise CommandError(_unknown(name, names))
    if json:
        output.document({"name": name, "disabled_at": None})
    elif not was_disabled:
        output.line(f"Upstream {name} was not disabled.")
    elif name in names:
        output.line(f"Upstream {name} is asked again.")
    else:
        output.line(f"Upstream {name} is not disabled any more. The configuration doesn't list it.")
    _warn_of_none(database, names)


def _names(settings: Settings, name: str) -> list[str]:
    """Those of the configuration; where that doesn't list this one, those that a running server has."""
    names = [upstream.name for upstream in settings.upstreams]
    if name not in names and (door := control.running(settings)) is not None:
        names = [upstream["name"] for upstream in door.get("upstreams")["upstreams"]]
    return names


def _unknown(name: str, names: list[str]) -> str:
    near = get_close_matches(name[:80], names, n=1)
    there = f"those there are: {', '.join(names)}" if names else "the configuration lists none"
    meant = f". Did you mean {near[0]!r}?" if near else ""
    return f"there is no upstream {redact(name[:80])!r}; {there}{meant}"


def _warn_of_none(database: Database, names: list[str]) -> None:
    if names and not set(names) - disabled_upstreams.list_disabled(database).keys():
        typer.echo("warning: every upstream is disabled, so every call is refused (NO_UPSTREAM)", err=True)
