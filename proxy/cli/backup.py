"""`weighbridge store backup`: a copy of the data folder, while a server runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxy.cli import options, output
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.control.backup import back_up


def register(app: typer.Typer) -> None:
    app.command()(backup)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the copy goes. It must not be there yet.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Copy projects, keys and the ledger into a new folder, also while a server runs.

    Each file is copied as it was at one moment. Where PostgreSQL has the rest, the ledger files are copied, which hold
    what it hasn't got yet. The admin token isn't copied.

    Example: `weighbridge store backup /backup/weighbridge-2026-11-22`
    """
    settings = options.settings(config)
    data_dir = settings.storage.data_dir
    if folder.expanduser().resolve().is_relative_to(data_dir.resolve()):
        raise CommandError(f"{folder} lies in {data_dir} itself, and would be lost with it: name a folder elsewhere")
    try:
        copied = back_up(data_dir, folder.expanduser())
    except PermissionError as error:
        needs = f"this user has to read {data_dir} and to write to {folder.parent}"
        raise CommandError(f"{error.filename}: {error.strerror}: {needs}") from None
    if not copied:
        raise CommandError(f"there is nothing to back up in {data_dir}: storage.data_dir names the data folder")
    if json:
        files = [one._asdict() for one in copied]
        output.document({"from": str(data_dir), "to": str(folder), "files": files})
        return
    rows = [[one.name, f"{one.size:,}", "" if one.records is None else f"{one.records:,}"] for one in copied]
    output.table(["FILE", "BYTES", "RECORDS"], rows, right=(1, 2))
    output.wrapped(f"To look at it: WEIGHBRIDGE_STORAGE__DATA_DIR={folder} weighbridge ledger verify")
    if settings.storage.database_url:
        output.wrapped("PostgreSQL holds projects, keys and all that was shipped: back it up by its own means.")
