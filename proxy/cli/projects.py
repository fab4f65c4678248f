"""`weighbridge project`: create, update, credit, list, show, disable, enable."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.billing.records import to_usd
from proxy.cli import keys as key_commands
from proxy.cli import options, output
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.cli.policy_options import (
    BudgetOption,
    BudgetPeriodOption,
    ConcurrencyOption,
    IpmOption,
    LimitOption,
    ModelsOption,
    RpdOption,
    RpmOption,
    TpmOption,
    changed,
    changes,
    limits_told,
    models_told,
)
from proxy.clock import unix_us
from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from proxy.tenants.policy import ALL
from proxy.tenants.projects import Project

app = options.group("Projects: the tenants that keys, limits and the bill belong to.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, - and _; at most 63.")]

_LIMITS_WIDTH = 40
"""Of a list of limits within a table; `project show` has all."""


def _fields(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "created_at": output.moment(project.created_at),
        "disabled_at": output.moment(project.disabled_at),
        "limits": [str(limit) for limit in project.limits],
        "models": list(project.models),
    }


def _tell(project: Project) -> None:
    output.wrapped(f"limits: {limits_told(project.limits)}")
    output.wrapped(f"models: {models_told(project.models)}")


@app.command()
def create(
    name: Name,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    rpd: RpdOption = None,
    ipm: IpmOption = None,
    concurrency: ConcurrencyOption = None,
    budget: BudgetOption = None,
    budget_period: BudgetPeriodOption = None,
    limit: LimitOption = None,
    models: ModelsOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a project, with the limits of `limits.defaults` unless others are given here.

    Example: `weighbridge project create alice --rpm 60 --limit 'ipm=5,model=gemini-3-pro-*'`, then
    `weighbridge key create alice`.
    """
    settings = options.settings(config)
    asked = changes(limit, budget, budget_period, rpm=rpm, tpm=tpm, rpd=rpd, ipm=ipm, concurrency=concurrency)
    project = projects.create(
        open_database(settings.storage),
        name,
        unix_us(),
        actor=options.actor(),
        limits=changed(parse_all(settings.limits.defaults), asked),
        models=models or ALL,
    )
    if json:
        output.document(_fields(project))
        return
    output.line(f"Project {name} is there. Next, a key for it:  weighbridge key create {name}")
    if project.limits or project.models != ALL:
        _tell(project)


@app.command()
def update(
    name: Name,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    rpd: RpdOption = None,
    ipm: IpmOption = None,
    concurrency: ConcurrencyOption = None,
    budget: BudgetOption = None,
    budget_period: BudgetPeriodOption = None,
    limit: LimitOption = None,
    models: ModelsOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Change a project's limits and models, in force within two seconds. What isn't named stays.

    Example: `weighbridge project update alice --rpm 90 --tpm none --models '*'`
    """
    asked = changes(limit, budget, budget_period, rpm=rpm, tpm=tpm, rpd=rpd, ipm=ipm, concurrency=concurrency)
    if not asked and not models:
        raise CommandError("nothing to change is named: give --models, or a limit such as --rpm 60 or --rpm none")
    database = options.database(config)
    before = projects.show(database, name)
    project = projects.update(database, name, unix_us(), actor=options.actor(), limits=asked, models=models or None)
    if json:
        output.document(_fields(project))
    else:
        output.line(f"Project {name} is changed." if project != before else f"Project {name} is as it was before.")
        _tell(project)


@app.command()
def credit(
    name: Name,
    usd: Annotated[str, typer.Argument(metavar="USD", help="How much is added, such as `25` or `2.50`.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Add to what a project may spend in all: to its budget `per=total`, which is made where there is none.

    Example: `weighbridge project credit alice 25`
    """
    project = projects.credit(options.database(config), name, usd, unix_us(), actor=options.actor())
    if json:
        output.document(_fields(project))
    else:
        output.line(f"Project {name} may spend {to_usd(projects.prepaid(project) or 0)} USD in all.")
        _tell(project)


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
            (
                project.name,
                output.minute(project.created_at),
                output.minute(project.disabled_at),
                output.shortened(limits_told(project.limits), _LIMITS_WIDTH),
            )
            for project in found
        ]
        output.table(("PROJECT", "CREATED (UTC)", "DISABLED (UTC)", "LIMITS"), rows)
    else:
        output.line(f"No project yet in {database}. Make one:  weighbridge project create NAME")


@app.command()
def show(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show a project, its limits and models, and its keys.

    Example: `weighbridge project show alice`
    """
    database = options.database(config)
    project = projects.show(database, name)
    of_project, now = keys.list_keys(database, name), unix_us()
    if json:
        output.document(_fields(project) | {"keys": [key_commands.fields(key, now) for key in of_project]})
        return
    state = f"disabled at {output.minute(project.disabled_at)} UTC" if project.disabled_at else "in service"
    output.line(f"{name}: {state}, created at {output.minute(project.created_at)} UTC")
    _tell(project)
    output.line()
    if of_project:
        key_commands.table(of_project, now, of_one_project=True)
    else:
        output.line(f"It has no key yet. Make one:  weighbridge key create {name}")


@app.command()
def disable(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Refuse a project's calls from within two seconds on, whatever the key. Its records stay.

    `weighbridge project enable` is the way back.

    Example: `weighbridge project disable alice`
    """
    project = projects.disable(options.database(config), name, unix_us(), actor=options.actor())
    if json:
        output.document(_fields(project))
    else:
        output.line(f"Project {name} is disabled: its calls are refused (PROJECT_DISABLED). Its records stay.")


@app.command()
def enable(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Serve a disabled project again, with the keys that it had.

    Example: `weighbridge project enable alice`
    """
    project = projects.enable(options.database(config), name, unix_us(), actor=options.actor())
    if json:
        output.document(_fields(project))
    else:
        output.line(f"Project {name} is in service: its keys that were neither revoked nor have expired are served.")
