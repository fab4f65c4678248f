"""`weighbridge limits`: show what is used of each limit, now."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import typer

from proxy.billing.ledger_reading import ledger_files
from proxy.billing.periods import Days
from proxy.cli import control, options, output
from proxy.cli.options import ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.control import rebuild
from proxy.control.admin import limits
from proxy.limits.memory import MemoryLimiter
from proxy.store.database import open_database

AWAY = "memory while redis is away"

app = options.group("Limits of projects and keys, and what is used of them.")


@app.command()
def show(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Whose limits, and those of its keys.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show each limit of a project and of its keys, and what is used of it now.

    Where a server runs, it tells; where none runs, the ledger does.

    Example: `weighbridge limits show alice`
    """
    settings = options.settings(config)
    door = control.running(settings)
    if door is None and settings.storage.redis_url:
        typer.echo(
            "No server runs on this data_dir: this is what its own calls took. What others took, Redis has.", err=True
        )
    told = _from_ledger(settings, project) if door is None else door.get(f"projects/{quote(project, safe='')}/limits")
    if told["counted_in"] == AWAY:
        typer.echo(
            "Redis is away, so each process counts alone. This is what the one that was asked took itself; where a "
            "server has several workers, that one serves no calls: it knows of adjustments only.",
            err=True,
        )
    if json:
        output.document(told)
    elif told["limits"]:
        _print(told, ZoneInfo(settings.limits.timezone))
    else:
        output.line(
            f"Project {project} and its keys have no limits. Set one:  weighbridge project update {project} --rpm 60"
        )


def _from_ledger(settings: Settings, project: str) -> dict[str, Any]:
    """What a server that starts now would know. Raises TenancyError, StoreError, LedgerError."""
    data_dir, days, now = settings.storage.data_dir, Days(settings.limits.timezone), unix_us()
    limited = limits.configured(open_database(settings.storage), project, now)
    files = ledger_files(data_dir)
    history = rebuild.history(files, days, now, lambda: 0)
    limiter = MemoryLimiter(lambda: now // 1000, history, rebuild.spent(files, days, now))
    return asyncio.run(limits.in_use(limiter, project, limited, days, now))


def _print(told: dict[str, Any], timezone: ZoneInfo) -> None:
    held = any(limit.get("held", "0") != "0" for limit in told["limits"])
    rows = [
        (
            _kind(limit),
            f"{limit['key_id']} ({limit['key_name']})" if limit["key_id"] else "project",
            limit["model"],
            _told(limit["used"]),
            *([limit.get("held", "")] if held else []),
            _told(limit["value"]),
            _frees(limit, timezone),
        )
        for limit in told["limits"]
    ]
    heads = ("LIMIT", "OF", "MODEL", "USED", *(["HELD"] if held else []), "LIMITED TO", "FREE AGAIN")
    output.table(heads, rows, right=(3, 4, 5) if held else (3, 4))
    if held:
        output.line("\nHELD is a part of USED: for calls in flight, which give back what they don't spend.")


def _kind(limit: dict[str, Any]) -> str:
    per = f" per {limit['per']}" if "per" in limit else ""
    return f"{limit['kind']}{per}{' (shadow)' if limit['shadow'] else ''}"


def _told(value: int | str) -> str:
    """USD come as they are to be shown."""
    return value if isinstance(value, str) else f"{value:,}"


def _frees(limit: dict[str, Any], timezone: ZoneInfo) -> str:
    """When what is used is free again."""
    if limit["resets_at"] is not None:
        ends = datetime.fromisoformat(limit["resets_at"]).astimezone(timezone)
        return f"at {ends:%Y-%m-%d %H:%M %Z}"
    if "per" in limit:
        return "never"
    return f"{limit['window_seconds']} s after each call" if limit["window_seconds"] else "when a call ends"
