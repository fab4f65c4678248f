"""`weighbridge upstreams`: list, disable, enable."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from proxy.cli import control, options, output
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.control.admin.upstreams import description
from proxy.store.database import Database, open_database
from proxy.tenants import disabled_upstreams

LONGEST_URL = 36
"""Characters of a base URL that the table shows; `--json` has all of it."""

app = options.group("Upstreams: how they are, and which are to be asked. Without a command: `list`.", alone=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called in the configuration.")]


@app.callback()
def _group(context: typer.Context, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Lists them where no command is named."""
    if context.invoked_subcommand is None:
        list_(config, json)
    elif config or json:
        raise CommandError(f"write options behind the command: weighbridge upstreams {context.invoked_subcommand} …")


@app.command("list")
def list_(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show how each upstream is, those first that are asked first.

    Where a server runs, it tells; where none runs, the configuration does, and which are disabled.

    Example: `weighbridge upstreams list`
    """
    settings = options.settings_and_upstreams(config)
    door = control.running(settings)
    if door is None:
        typer.echo("No server runs on this data_dir: this is the configuration, and what is disabled.", err=True)
    told = _configured(settings) if door is None else door.get("upstreams")
    if json:
        output.document(told)
    elif told["upstreams"]:
        _print(told["upstreams"], datetime.now(UTC))
    else:
        output.line("The configuration lists no upstream, and neither GEMINI_API_KEY nor GOOGLE_API_KEY is set here.")


@app.command()
def disable(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Send no more calls to an upstream, from within two seconds on. Those in flight there finish.

    It stays so over reloads and restarts: `weighbridge upstreams enable` is the way back.

    Example: `weighbridge upstreams disable google-2`
    """
    settings = options.settings_and_upstreams(config)
    database = open_database(settings.storage)
    names = _names(settings, name)
    if name not in names:
        raise CommandError(disabled_upstreams.unknown(name, names))
    since = disabled_upstreams.disable(database, name, unix_us(), actor=options.actor())
    if json:
        output.document({"name": name, "disabled_at": output.moment(since)})
    else:
        output.line(f"Upstream {name} is disabled: it gets no more calls. Those in flight there finish.")
    _warn_of_none(database, names)


@app.command()
def enable(name: Name, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Have a disabled upstream asked again, from within two seconds on.

    Also one that the configuration lists no more.

    Example: `weighbridge upstreams enable google-2`
    """
    settings = options.settings_and_upstreams(config)
    database = open_database(settings.storage)
    was_disabled = disabled_upstreams.enable(database, name, unix_us(), actor=options.actor())
    names = _names(settings, name)
    if not was_disabled and name not in names:
        raise CommandError(disabled_upstreams.unknown(name, names))
    if json:
        output.document({"name": name, "disabled_at": None})
    elif not was_disabled:
        output.line(f"Upstream {name} was not disabled.")
    elif name in names:
        output.line(f"Upstream {name} is asked again.")
    else:
        output.line(f"Upstream {name} is not disabled any more. The configuration doesn't list it.")
    _warn_of_none(database, names)


def _names(settings: Settings, name: str) -> list[str]:
    """Those of the configuration; where that doesn't list this one, those that a running server has."""
    names = [upstream.name for upstream in settings.upstreams]
    if name not in names and (door := control.running(settings)) is not None:
        names = [upstream["name"] for upstream in door.get("upstreams")["upstreams"]]
    return names


def _warn_of_none(database: Database, names: list[str]) -> None:
    if names and not set(names) - disabled_upstreams.list_disabled(database).keys():
        typer.echo("warning: every upstream is disabled, so every call is refused (NO_UPSTREAM)", err=True)


def _configured(settings: Settings) -> dict[str, Any]:
    """What is known without a server, as it would tell it: what only that knows is null. Raises StoreError."""
    since = disabled_upstreams.list_disabled(open_database(settings.storage))
    unknown = dict.fromkeys(("outages", "quota", "last_error", "latency_ms", "in_flight"))
    rows = [
        {
            **description(one),
            "state": "disabled" if one.name in since else None,
            "disabled_at": output.moment(since.get(one.name)),
            **unknown,
        }
        for one in sorted(settings.upstreams, key=lambda one: one.priority)
    ]
    return {"upstreams": rows}


def _print(upstreams: list[dict[str, Any]], now: datetime) -> None:
    """A line for each, and below it, indented, what is to be said besides."""
    rows = [
        (
            one["name"],
            (one["state"] or "-").replace("_", " "),
            str(one["priority"]),
            str(one["weight"]),
            "-" if one["in_flight"] is None else f"{one['in_flight']:,}",
            "-" if one["latency_ms"] is None else f"{one['latency_ms']:,.0f} ms",
            _fitting(one["base_url"].removeprefix("https://")),
        )
        for one in upstreams
    ]
    heads = ("UPSTREAM", "STATE", "PRIORITY", "WEIGHT", "IN FLIGHT", "LATENCY", "BASE URL")
    output.table(heads, rows, right=(2, 3, 4, 5))
    for one in upstreams:
        if said := list(_besides(one, now)):
            output.line(f"\n{one['name']}:")
            for line in said:
                output.wrapped(line, indent=2)


def _fitting(url: str) -> str:
    return url if len(url) <= LONGEST_URL else f"{url[: LONGEST_URL - 2]} …"


def _besides(one: dict[str, Any], now: datetime) -> Iterator[str]:
    for what in ("models", "projects"):
        if one[what] != ["*"]:
            yield f"{what}: {', '.join(one[what])}"
    if one["disabled_at"]:
        yield f"disabled since {_minute(one['disabled_at'])} UTC"
    for outage in one["outages"] or ():
        of = "all models" if outage["model"] == "*" else outage["model"]
        said = f": {outage['said'].partition('. ')[0]}" if outage["said"] else ""
        yield f"out for {of}, {outage['why'].replace('_', ' ')}, {_until(outage['until'], now)}{said}"
    for used in one["quota"] or ():
        of = "" if used["model"] == "*" else f" ({used['model']})"
        full = ", no room now" if Decimal(used["used"]) >= Decimal(used["value"]) else ""
        yield f"{used['kind']}{of}: {_number(used['used'])} of {_number(used['value'])} used{full}"
    if error := one["last_error"]:
        yield f"last error, {_ago(error['at'], now)}: {error['what']}"


def _until(moment: str, now: datetime) -> str:
    seconds = math.ceil((datetime.fromisoformat(moment) - now).total_seconds())
    if seconds <= 0:
        return "to be tried by the next call"
    return f"for {_span(seconds)} more"


def _ago(moment: str, now: datetime) -> str:
    return f"{_span(max(0, int((now - datetime.fromisoformat(moment)).total_seconds())))} ago"


def _span(seconds: int) -> str:
    """Seconds as people read them: "17 s", "12 min", "5 h 40 min"."""
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _number(value: int | str) -> str:
    """USD come as they are to be shown."""
    return f"${value}" if isinstance(value, str) else f"{value:,}"
