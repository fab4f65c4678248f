"""What commands share: their options, how they come by settings and database, and how an error of theirs is told."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from proxy.billing.ledger_errors import LedgerError
from proxy.billing.sources import Sources
from proxy.config.load import ConfigError, load
from proxy.config.schema import Settings
from proxy.resources import PortTaken
from proxy.store.database import Database, StoreError, open_database
from proxy.telemetry.redaction import redact
from proxy.tenants.projects import TenancyError

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="The configuration file. Default: $WEIGHBRIDGE_CONFIG, then ./weighbridge.toml, else built-in defaults.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.", show_default=False)]


class CommandError(Exception):
    """A command can't do what it was asked to do; the text says why, and what to do."""


EXPECTED = (CommandError, ConfigError, StoreError, TenancyError, LedgerError, PortTaken, OSError)


USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""UsageError: what is typed isn't what a command takes. Typer has it and doesn't export it."""


class Group(TyperGroup):
    """A group of commands that tells expected errors in a sentence on standard error, and ends with 1."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except USAGE_ERROR as error:
            raise _without_secrets(error) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except USAGE_ERROR as error:
            raise _without_secrets(error) from None
        except BrokenPipeError:
            raise  # `weighbridge … | head` is no error: typer ends quietly
        except EXPECTED as error:
            # What was typed may be a key in the wrong place.
            for sentence in redact(_told(error)).splitlines():
                typer.echo(f"error: {sentence}", err=True)
            raise typer.Exit(1) from None


def _without_secrets(error: Any) -> Any:
    """A mistake in what was typed, told as typer tells it; where a key stands in the wrong place, without that."""
    said = redact(error.format_message())
    error.format_message = lambda: said
    return error


def _told(error: Exception) -> str:
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    advice = "; run this as the user that the server runs as" if isinstance(error, PermissionError) else ""
    return f"{error.filename}: {error.strerror}{advice}"


def group(help_text: str, *, alone: bool = False) -> typer.Typer:
    """A group of commands, to be mounted under the root. `alone`: its callback does something without a command."""
    return typer.Typer(
        cls=Group,
        help=help_text,
        no_args_is_help=not alone,
        invoke_without_command=alone,
        rich_markup_mode="markdown",
    )


def alone() -> typer.Typer:
    """A command that stands under the root by itself."""
    return typer.Typer(rich_markup_mode="markdown", add_completion=False)


def settings(config: Path | None) -> Settings:
    """The configuration, without the upstreams: these commands call none. Raises ConfigError."""
    return load(config, os.environ, upstreams=False)


def settings_and_upstreams(config: Path | None) -> Settings:
    """The configuration with its upstreams, whose keys aren't looked up: their values are none. Raises ConfigError."""
    return load(config, os.environ, secrets_too=False)


def database(config: Path | None) -> Database:
    """The database that the configuration names, made where it isn't there yet. Raises ConfigError, StoreError."""
    return open_database(settings(config).storage)


def sources(settings: Settings) -> Sources:
    """Where the ledger is read. Raises StoreError. A ledger file may stand alone: no database is made for it."""
    storage = settings.storage
    return Sources(storage.data_dir, open_database(storage) if storage.database_url else None)


def actor() -> str:
    """Who changes projects, keys and upstreams by a command, as audit events name them: the user that it runs as."""
    user = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(user).pw_name}"
    except KeyError:  # as in a container that runs as a bare number
        return f"cli:{user}"


def command() -> str:
    """What to type to start this program again: for a line that is meant to be pasted."""
    if shutil.which("weighbridge"):
        return "weighbridge"
    installed = Path(sys.executable).with_name("weighbridge")
    if not installed.exists():
        return "python -m proxy"
    return shlex.quote(os.path.relpath(installed) if installed.is_relative_to(Path.cwd()) else str(installed))
