"""`weighbridge demo`: a picture through a running Weighbridge, its bill, and what to paste to make the next one."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from pydantic import SecretStr

from proxy.billing import reports
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.rate_tables import divide_half_even
from proxy.billing.records import UsageRecord, to_usd
from proxy.cli import options, output, snippets
from proxy.cli.image import calls, files
from proxy.cli.image.command import DEFAULT_MODEL
from proxy.cli.image.target import Target
from proxy.clock import unix_us
from proxy.config.load import GOOGLE_KEYS
from proxy.config.schema import Server, Settings, Storage
from proxy.config.secrets import SecretError, resolve
from proxy.config.upstreams import Upstream
from proxy.doors import INTERRUPT_DRAIN_S, Door, Doors, open_doors
from proxy.emulator.app import DEFAULT_KEY, create_app
from proxy.resources import PortTaken, bind
from proxy.store.database import Database, open_database
from proxy.store.folders import make_folder
from proxy.telemetry import logs
from proxy.tenants import keys, projects

PROMPT = "A red lorry standing on a weighbridge at dawn, photographed from above"
PROJECT = "demo"
DATA_DIR = Path("weighbridge-data/demo")


app = options.alone()


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the picture goes.")] = Path(
        "demo.jpg"
    ),
    once: Annotated[bool, typer.Option("--once", help="End after the picture, instead of serving on.")] = False,
) -> None:
    """See it work: make a picture through Weighbridge, read its bill, then go on with your own code.

    Google answers where GEMINI_API_KEY is set, else an emulator that costs nothing. Everything is kept in
    ./weighbridge-data/demo; ports that are taken are replaced by free ones.
    """
    files.check_place(out)
    logs.configure(quiet=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_demo(out, once))


async def _demo(out: Path, once: bool) -> None:
    with _bind(8080) as gateway, _bind(8081) as control:
        async with _upstream(os.environ) as upstream:
            settings = _settings(upstream)
            make_folder(DATA_DIR.parent)  # it is to be the data_dir of who goes on from here: for this user alone
            key = _key(open_database(settings.storage))
            async with open_doors(settings, gateway, control) as doors:
                try:
                    await _make(doors, settings, upstream, key, out)
                except options.CommandError:
                    if not doors.closing:  # else it was Ctrl-C that broke off the call
                        raise
                if once:
                    doors.interrupt()
                elif not doors.closing:
                    _tell_how_to_go_on(doors, key)


async def _make(doors: Doors, settings: Settings, upstream: Upstream, key: str, out: Path) -> None:
    who = "the emulator: no Google key is set" if upstream.name == "emulator" else "Google, with your key"
    output.line(f"Upstream: {who}.\n")
    wish = calls.Wish(PROMPT, DEFAULT_MODEL, aspect="16:9")
    async with calls.client() as http:
        made = await calls.make_one(http, Target(doors.base_url, key, google=False), wish)
    output.line(files.sentence(files.describe(files.save(out, made.picture), made)))
    output.line()
    bill(_record(settings.storage.data_dir, made.request_id))
    data_dir = settings.storage.data_dir
    output.line(f"\nThe bill: WEIGHBRIDGE_STORAGE__DATA_DIR={data_dir} {options.command()} usage report")


def _tell_how_to_go_on(doors: Doors, key: str) -> None:
    output.line()
    for line in snippets.lines(doors.base_url, key, DEFAULT_MODEL):
        output.line(line)
    output.line(f"\nMetrics: {doors.admin_url}/metrics   Control door: {doors.admin_url}")
    output.line("\nServing until Ctrl-C.")


def bill(record: UsageRecord) -> None:
    """One call's lines: quantity x rate, and the sum as the ledger has it."""
    rows = [
        (name, f"{quantity:,}", f"${to_usd(rate)}", f"${to_usd(divide_half_even(quantity * rate))}")
        for name, (quantity, rate) in (record.rates or {}).items()
        if rate is not None
    ]
    total = "no price" if record.cost_usd is None else f"${to_usd(record.cost_usd)}"
    output.table(
        ("ON THE BILL", "TOKENS", "USD PER MILLION", "USD"), [*rows, (record.model, "", "", total)], right=(1, 2, 3)
    )


def _record(data_dir: Path, request_id: str | None) -> UsageRecord:
    found = reports.of_request(ledger_files(data_dir), request_id or "", PROJECT, most=1)
    if not found:
        raise options.CommandError(f"the call {request_id} is not in the ledger: please report this as a bug")
    return found[0]


def _settings(upstream: Upstream) -> Settings:
    return Settings(
        server=Server(lame_duck_seconds=0),
        storage=Storage(data_dir=DATA_DIR),
        upstreams=(upstream,),
    )


def _key(database: Database) -> str:
    """A new key of the demo's project: an older one can't be shown again."""
    if all(project.name != PROJECT for project in projects.list_projects(database)):
        projects.create(database, PROJECT, unix_us(), actor=options.actor())
    return keys.create(database, PROJECT, "demo", unix_us(), secrets.randbelow, actor=options.actor())[1]


def _bind(port: int) -> socket.socket:
    """That port of the loopback, or a free one where it is taken."""
    try:
        return bind("127.0.0.1", port)
    except PortTaken:
        return bind("127.0.0.1", 0)


@asynccontextmanager
async def _upstream(environ: Mapping[str, str]) -> AsyncGenerator[Upstream]:
    """Google where there is a key for it, else an emulator that runs for so long."""
    for name in GOOGLE_KEYS:
        if environ.get(name):
            try:
                key = resolve({"api_key_env": name}, environ)
            except SecretError as error:
                raise options.CommandError(f"{name}: {error}") from None
            yield Upstream(name="google", api_key=SecretStr(key), api_key_env=name)
            return
    with bind("127.0.0.1", 0) as listener:
        door = Door(create_app(), listener, http="httptools")
        serving = asyncio.get_running_loop().create_task(door.open_until_told())
        port = listener.getsockname()[1]
        try:
            yield Upstream(name="emulator", base_url=f"http://127.0.0.1:{port}", api_key=SecretStr(DEFAULT_KEY))
        finally:
            door.close(INTERRUPT_DRAIN_S)
            await serving
