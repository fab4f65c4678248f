"""`weighbridge serve`: both doors, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Annotated

import structlog
import typer

from proxy import serve as process
from proxy.cli import options, output
from proxy.cli.options import ConfigOption
from proxy.config.load import read
from proxy.config.schema import Settings
from proxy.telemetry import logs

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


app = options.alone()


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Where the gateway door listens, for clients.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.", show_default="8080")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Processes that serve calls; more than one need storage.redis_url.", show_default="1"
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Serve: the gateway door for clients, the control door for operators.

    SIGTERM drains: not ready at once, closed after `server.lame_duck_seconds`, ended when the calls in flight are.
    Ctrl-C waits five seconds for them; a second one doesn't. SIGHUP reloads the configuration, as a changed file does.

    Example: `GEMINI_API_KEY=… weighbridge serve --port 8080`
    """
    given = {
        "WEIGHBRIDGE_SERVER__HOST": host,
        "WEIGHBRIDGE_SERVER__PORT": port,
        "WEIGHBRIDGE_SERVER__WORKERS": workers,
    }
    environ = {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
    loaded = read(config, environ)
    logs.configure(style=loaded.settings.logs.format)
    for warning in loaded.warnings:
        log.warning("configuration", what=warning)
    process.run(loaded, environ, opened=partial(announce, loaded.settings))


def announce(settings: Settings, base_url: str, admin_url: str) -> None:
    """Says where it serves. A full disk, or a pipe that nobody reads any more, costs these lines and no server."""
    try:
        _announce(settings, base_url, admin_url)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what couldn't be written is tried again at the process's end
        os.close(nowhere)


def _announce(settings: Settings, base_url: str, admin_url: str) -> None:
    workers = f" with {settings.server.workers} workers" if settings.server.workers > 1 else ""
    output.line(f"Weighbridge serves at {base_url}{workers}; metrics at {admin_url}/metrics")
    output.line(f"Keys: weighbridge key create PROJECT. Records: {settings.storage.data_dir}. Ctrl-C ends it.")
