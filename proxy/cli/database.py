"""`weighbridge db`: upgrade."""

from __future__ import annotations

from proxy.cli import options, output
from proxy.cli.options import ConfigOption, JsonOption
from proxy.store import database
from proxy.store.tables import HEAD

app = options.group("The database of projects and keys.")


@app.callback()
def _group() -> None:
    """Keeps `upgrade` a command of its own while it is the only one."""


@app.command()
def upgrade(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Bring weighbridge.db to this version's schema; make it where there is none.

    Harmless when there is nothing to do. `serve`, and every command that needs the database, does it by itself.

    Example: `weighbridge db upgrade`
    """
    path = options.settings(config).storage.data_dir / database.FILE_NAME
    before = database.upgrade(path)
    if json:
        output.document({"database": str(path), "from": before, "to": HEAD})
    elif before == HEAD:
        output.line(f"{path} is up to date (schema {HEAD}).")
    else:
        output.line(f"{path} is now at schema {HEAD} ({f'it was at {before}' if before else 'it is new'}).")
