"""The command `weighbridge`: every group and command, mounted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer

from proxy import __version__
from proxy.cli import options

COMMANDS = {
    "serve": "serve",
    "demo": "demo",
    "doctor": "doctor.command",
    "image": "image.command",
    "emulator": "emulator",
}
GROUPS = {
    "project": "projects",
    "key": "keys",
    "limits": "limits",
    "upstreams": "upstreams",
    "audit": "audit",
    "events": "events",
    "usage": "usage",
    "ledger": "ledger",
    "prices": "prices",
    "config": "config",
    "db": "database",
    "store": "store",
}
"""In which module of proxy.cli each stands, as `app`."""


class Mounted(Mapping[str, Any]):
    """Commands and groups, each imported when it is asked for: all of them, with the server, take half a second."""

    def __getitem__(self, name: str) -> Any:
        found = typer.main.get_command if name in COMMANDS else typer.main.get_group
        command = found(import_module(f"proxy.cli.{COMMANDS.get(name) or GROUPS[name]}").app)
        command.name = name
        return command

    def __iter__(self) -> Iterator[str]:
        return iter((*COMMANDS, *GROUPS))

    def __len__(self) -> int:
        return len(COMMANDS) + len(GROUPS)


class Root(options.Group):
    """The command itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Mounted()  # type: ignore[assignment]  # nothing is added to it


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback with local variables would show secrets.
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"weighbridge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """A transparent reverse proxy for the Gemini API that writes down exactly what each call cost.

    To see it work, without a Google key: `weighbridge demo`

    To begin: `export GEMINI_API_KEY=…`, then `weighbridge project create alice`, `weighbridge key create alice`,
    `weighbridge serve`
    """
