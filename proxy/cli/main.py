"""The command `weighbridge`: every group and command, mounted."""

from __future__ import annotations

from typing import Annotated

import typer

from proxy import __version__
from proxy.cli import (
    audit,
    config,
    database,
    demo,
    emulator,
    events,
    keys,
    ledger,
    limits,
    options,
    prices,
    projects,
    serve,
    store,
    upstreams,
    usage,
)
from proxy.cli.doctor import command as doctor
from proxy.cli.image import command as image

app = typer.Typer(
    cls=options.Group,
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


for command in (serve, demo, doctor, image, emulator):
    command.register(app)
for name, group in (
    ("project", projects.app),
    ("key", keys.app),
    ("limits", limits.app),
    ("upstreams", upstreams.app),
    ("audit", audit.app),
    ("events", events.app),
    ("usage", usage.app),
    ("ledger", ledger.app),
    ("prices", prices.app),
    ("config", config.app),
    ("db", database.app),
    ("store", store.app),
):
    app.add_typer(group, name=name)
