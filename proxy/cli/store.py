"""`weighbridge store`: backup, move (from a data_dir to PostgreSQL)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.billing.periods import Days
from proxy.billing.records import to_usd
from proxy.cli import backup, control, options, output, progress
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config import database_address
from proxy.config.schema import Settings, Storage
from proxy.control import store_sums
from proxy.control.store_move import Move, MoveRefused
from proxy.control.store_sums import Held, Month, Sums
from proxy.limiter import tell_redis
from proxy.store.database import Database, StoreError, backend_of, open_database
from proxy.store.sqlite import FILE_NAME

app = options.group("Where projects, keys and the ledger are kept.")


backup.register(app)


@app.command()
def move(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="The data folder to move from. Default: storage.data_dir.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="The PostgreSQL to move to, without a password. Default: storage.database_url.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved, and write nothing.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Move projects, keys and the ledger from a data folder (SQLite and ledger files) to PostgreSQL.

    No server may run on it meanwhile. Done again after it was broken off, it goes on. It ends with the sums of both
    sides: with 1 where they aren't equal.

    Example: `weighbridge store move --to postgresql://weighbridge@db.internal/weighbridge`
    """
    settings = options.settings(config)
    data_dir, there = _source(settings, source), _target(settings, target)
    moving = Move(_opened(data_dir, dry_run=dry_run), data_dir, open_database(there))
    try:
        equal = _show(moving, json=json) if dry_run else _move(moving, settings, json=json)
    except MoveRefused as error:
        raise CommandError(str(error)) from None
    if not equal:
        raise typer.Exit(1)
    if not (dry_run or json):
        _say_what_next(settings, data_dir, there)


def _source(settings: Settings, given: str | None) -> Path:
    if given is not None and "://" in given:
        raise CommandError("--from is a data folder: nothing is moved out of PostgreSQL; see docs/store-move.md")
    data_dir = settings.storage.data_dir if given is None else Path(given).expanduser()
    if not (data_dir / FILE_NAME).is_file():
        raise CommandError(f"there is no {FILE_NAME} in {data_dir}: --from, or storage.data_dir, names the data folder")
    return data_dir


def _target(settings: Settings, given: str | None) -> Storage:
    """The configuration's password goes to the configuration's PostgreSQL alone. To another, libpq finds it."""
    configured = settings.storage.database_url
    if not (given or configured):
        raise CommandError("where to? Set storage.database_url in weighbridge.toml, or give --to postgresql://…")
    if given in (None, configured):
        return settings.storage
    try:
        database_address.parse(str(given))
    except ValueError as error:
        raise CommandError(f"--to {error}") from None
    return Storage(data_dir=settings.storage.data_dir, database_url=str(given))


def _opened(data_dir: Path, *, dry_run: bool) -> Database:
    storage = Storage(data_dir=data_dir)
    return Database(backend_of(storage)) if dry_run else open_database(storage)


def _show(moving: Move, *, json: bool) -> bool:
    """What would be moved. Nothing is locked, so a server that runs may add to it."""
    left = moving.check()
    ledger = store_sums.of_files(moving.file_ids().values())
    held = [*store_sums.tables(moving.source, None, same=True), *store_sums.ledgers(ledger, ledger)]
    months = store_sums.months(ledger, ledger)
    if json:
        output.document(_document(moving, held, months) | {"moved_before": not left})
    else:
        output.line(f"From {moving.data_dir} to {moving.target} would be moved:" if left else _BEFORE)
        _print(held, months, both=False)
    return True


_BEFORE = "All of this was moved before, but what the ledger may have besides:"


def _move(moving: Move, settings: Settings, *, json: bool) -> bool:
    """Returns whether both sides are equal. Nothing is copied where the ledger isn't: it is first what it was."""
    with control.held(moving.data_dir, "stop the server first, or what it records meanwhile would be missing"):
        left = moving.check()
        with _goes_on(), progress.shown("moved") as tell:
            moving.ship(Days(settings.limits.timezone).name, unix_us, tell)
        files = moving.file_ids()
        ours, theirs = store_sums.of_files(files.values()), store_sums.of_postgres(moving.target, files)
        held, months = store_sums.ledgers(ours, theirs), store_sums.months(ours, theirs)
        equal = all(one.equal for one in held) and all(one.equal for one in months)
        if equal:
            left = moving.copy()
            held = [*store_sums.tables(moving.source, moving.target, same=left), *held]
            equal = all(one.equal for one in held)
        used = _tell_redis(settings, moving) if equal and settings.storage.redis_url else None
    if json:
        output.document(_document(moving, held, months) | {"equal": equal})
    else:
        _print(held, months, both=True)
        output.wrapped("All is moved, and the sums are equal." if equal else _UNEQUAL)
        if used is not None:
            output.line(f"Redis knows what is used of limits: of {used:,} of them, something is.")
    return equal


_UNEQUAL = (
    "The sums differ: go on with the old configuration, which nothing has changed. Records that couldn't be read or "
    "written are told above; records removed from a file after its move began can only be had by moving anew, into an "
    "empty database."
)


def _tell_redis(settings: Settings, moving: Move) -> int:
    used = asyncio.run(tell_redis(settings, moving.source, moving.file_ids(), unix_us))
    if used is None:
        raise CommandError(
            "all is moved but what Redis is to know: it can't be asked, as is told above. Mend that and run this "
            "again; or leave it: workers tell Redis of a limit when they first meet it"
        )
    return used


@contextmanager
def _goes_on() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise CommandError(f"{error}\nWhat is moved by now stays: run this again, and it goes on from there") from None


def _document(moving: Move, held: list[Held], months: list[Month]) -> dict[str, Any]:
    def sums(of: Sums) -> dict[str, Any]:
        return of._asdict() | {"cost_usd": to_usd(of.cost_usd)}

    return {
        "from": str(moving.data_dir),
        "to": str(moving.target),
        "held": [one._asdict() for one in held],
        "months": [one._asdict() | {"source": sums(one.source), "target": sums(one.target)} for one in months],
    }


def _print(held: list[Held], months: list[Month], *, both: bool) -> None:
    rows = [_row(one.what, "", f"{one.source:,}", f"{one.target:,}", equal=one.equal) for one in held]
    for month in months:
        for name, source, target in zip(Sums._fields, month.source, month.target, strict=True):
            ours, theirs = (f"${to_usd(sum_)}" if name == "cost_usd" else f"{sum_:,}" for sum_ in (source, target))
            rows.append(_row(month.month, name, ours, theirs, equal=month.equal))
    heads = ["table or month", "", "source", "target", ""]
    columns = len(heads) if both else 3
    output.table(heads[:columns], [row[:columns] for row in rows], right=range(2, min(columns, 4)))


def _row(what: str, of: str, source: str, target: str, *, equal: bool) -> list[str]:
    return [what, of, source, target, "" if equal else "DIFFERS"]


def _say_what_next(settings: Settings, data_dir: Path, there: Storage) -> None:
    wanted = []
    if data_dir.absolute() != settings.storage.data_dir.absolute():
        wanted.append(f'data_dir = "{data_dir.absolute()}"')
    if there.database_url != settings.storage.database_url:
        wanted.append(f'database_url = "{there.database_url}"')
        wanted.append('database_password_env = "…"  # the variable that holds its password, if it asks for one')
    output.line()
    for line in ("In weighbridge.toml:", "", "[storage]", *wanted, "") if wanted else ():
        output.line(line)
    output.wrapped(
        f"Start the server again, with {data_dir} as before: the workers' ledger files stay in it, and limits and "
        f"budgets go on from them. {FILE_NAME} is read no more, and is as it was: the way back, until a server works "
        "on PostgreSQL."
    )
