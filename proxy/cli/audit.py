"""`weighbridge audit`: list."""

from __future__ import annotations

from shlex import quote
from typing import Annotated, Any

import typer

from proxy.cli import options, output, times
from proxy.cli.options import ConfigOption, JsonOption
from proxy.cli.policy_options import limits_told
from proxy.store.database import open_database
from proxy.tenants import audit, projects
from proxy.tenants.audit import AuditEvent

app = options.group("Who changed projects, keys, limits and upstreams, when, and what.")


@app.callback()
def _group() -> None:
    """Keeps `list` a command of its own while it is the only one."""


@app.command("list")
def list_(
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="Of this project only.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="From then on: a day (2026-11-01) or a time, in `limits.timezone` unless it names its offset.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    before: Annotated[
        int | None, typer.Option("--before", metavar="ID", help="Older than this event.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List changes of projects, keys, limits and upstreams, the newest first.

    Example: `weighbridge audit list --project alice --since 2026-11-01`
    """
    settings = options.settings(config)
    database = open_database(settings.storage)
    if project is not None:
        projects.show(database, project)  # a mistyped name is told, and not an empty list
    start = times.moment(since, settings.limits.timezone)
    start_us = None if start is None else int(start.timestamp()) * 1_000_000
    found = audit.list_events(database, limit=limit + 1, project=project, since=start_us, before=before)
    more, found = len(found) > limit, found[:limit]
    if json:
        output.document([_fields(event) for event in found])
        return
    for event in found:
        _tell(event)
    if more:
        named = {"project": project, "since": since, "limit": str(limit), "before": str(found[-1].id)}
        same = " ".join(f"--{name} {quote(value)}" for name, value in named.items() if value)
        output.line(f"\nOlder ones:  weighbridge audit list {same}")
    if not found:
        output.line("No change is on record here.")


def _fields(event: AuditEvent) -> dict[str, Any]:
    changes = {
        name: {when: output.moment(value) if name.endswith("_at") else value for when, value in states.items()}
        for name, states in event.changes.items()
    }
    return event._asdict() | {"at": output.moment(event.at), "project": event.project or None, "changes": changes}


def _tell(event: AuditEvent) -> None:
    """A line that says who and when, and one for each thing that is another now."""
    what = " ".join(filter(None, (event.action, event.project, event.key_id, event.upstream)))
    output.line(f"{output.minute(event.at)} UTC  {event.actor}  {what}")
    for name, states in event.changes.items():
        if not states["before"] and not states["after"]:
            continue  # a new key without limits
        before, after = (_told(name, states[when]) for when in ("before", "after"))
        output.wrapped(f"{name}: {after}" if states["before"] is None else f"{name}: {before} → {after}", indent=4)


def _told(name: str, value: Any) -> str:
    if isinstance(value, list):
        return limits_told(value)
    return "none" if value is None else f"{output.minute(value)} UTC" if name.endswith("_at") else str(value)
