"""`weighbridge project`: create, list, show, disable."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.app import unix_us
from proxy.cli import keys as key_commands
from proxy.cli import options, output
from proxy.cli.options import ConfigOption, JsonOption
from proxy.tenants import keys, projects
from proxy.tenants.projects import Project

app = options.group("Projects: the tenants that keys, and the bill, belong to.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, - and _; at most 63.")]


def _fields(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "created_at": output.moment(project.created_at),
        "disabled_at": output.moment(project.disabled_at),
    }


@app.command()
def create(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Make a project.

    Example: `weighbridge project create alice`, then `weighbridge key create alice`.
    """
    project = projects.create(options.database(config), name, unix_us(), actor=options.actor())
    if json:
        output.document(_fields(project))
    else:
        output.line(f"Project {name} is there. Next, a key for it:  weighbridge key create {name}")


@app.command("list")
def list_(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List all projects.

    Example: `weighbridge project list --json`
    """
    database = options.database(config)
    found = projects.list_projects(database)
    if json:
        output.document([_fields(project) for project in found])
    elif found:
        rows = [
            (project.name, output.moment(project.created_at) or "", output.moment(project.disabled_at) or "-")
            for project in found
        ]
        output.table(("PROJECT", "CREATED", "DISABLED"), rows)
    else:
        output.line(f"No project yet in {database.path}. Make one:  weighbridge project create NAME")


@app.command()
def show(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show a project and its keys.

    Example: `weighbridge project show alice`
    """
    database = options.database(config)
    project = projects.show(database, name)
    of_project = keys.list_keys(database, name)
    if json:
        output.document(_fields(project) | {"keys": [key_commands.fields(key) for key in of_project]})
        return
    state = f"disabled at {output.moment(project.disabled_at)}" if project.disabled_at else "in service"
    output.line(f"{name}: {state}, created at {output.moment(project.created_at)}")
    if of_project:
        output.line()
        key_commands.table(of_project)
    else:
        output.line(f"It has no key yet. Make one:  weighbridge key create {name}")


@app.command()
def disable(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Refuse a project's calls from within two seconds on, whatever the key. Its records stay.

    There is no way back in this version: to serve them again, make another project.

    Example: `weighbridge project disable alice`
    """
    project = projects.disable(options.database(config), name, unix_us(), actor=options.actor())
    if json:
        output.document(_fields(project))
    else:
        output.line(f"Project {name} is disabled: its calls are refused (PROJECT_DISABLED). Its records stay.")
