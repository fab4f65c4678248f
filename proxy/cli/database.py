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
    """Bring the database to this version's schema; make it where there is none. Says what it did.

    Harmless when there is nothing to do, and where several nodes do it at once. SQLite's is brought up to date by
    `serve`, and by every command that needs it, without being asked. PostgreSQL's is by this command alone: run it
    once, before the first node of a new version starts. Nodes of the older version go on.

    Example: `weighbridge db upgrade`
    """
    storage = options.settings(config).storage
    name, done = database.backend_of(storage).name, database.upgrade(storage)
    if json:
        output.document({"database": name, "from": done.before, "to": done.after, "steps": list(done.steps)})
        return
    for step in done.steps:
        output.line(step)
    if done.steps:
        was = f"it was at {done.before}" if done.before else "it is new"
        output.line(f"{name} is now at schema {done.after} ({was}).")
    elif done.after == HEAD:
        output.line(f"{name} is up to date (schema {HEAD}).")
    else:
        output.line(f"{name} is newer (schema {done.after}) than this program ({HEAD}), which can work with it.")
