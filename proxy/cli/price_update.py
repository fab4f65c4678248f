"""`weighbridge prices update`: takes another price book, after showing exactly what it would change."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from proxy.billing import book_changes, price_book, taken_book
from proxy.billing.book_changes import Change
from proxy.billing.prices import PriceBook
from proxy.billing.taken_book import Taken
from proxy.cli import options, output
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.store.database import open_database
from proxy.tenants import audit

MOST_BYTES = 32 << 20
"""Of a price book: genai-prices' data, of all providers, is a few megabytes."""
FETCHED_WITHIN_S = 60
MOST_REDIRECTS = 5
_TIERS = ("standard", "flex", "batch", "priority")


def update(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|URL",
            help="A price book (TOML or JSON), or genai-prices' data (JSON). An address must be https.",
            show_default=False,
        ),
    ] = None,
    builtin: Annotated[
        bool, typer.Option("--builtin", help="Go back to the price book that comes with the program.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take it without asking.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take another price book: show what it changes, ask, and keep it in `storage.data_dir`.

    A running server follows. Calls that are on record keep their price: see `weighbridge ledger rerate`.

    Example: `weighbridge prices update price_book.toml`
    """
    if (source is None) is not builtin:
        raise CommandError("give a file or an address to take a price book from; or --builtin, to go back")
    settings = options.settings(config)
    taken = None if source is None else _take(source)
    was, bad = _in_force(settings.storage.prices_file)
    becomes = PriceBook.of(taken)  # without [[prices]], which stand before any book
    changes = book_changes.compare(was, becomes)
    asked = {"from": was.source, "to": becomes.source, "changes": [_change(change) for change in changes]}
    if not json:
        _tell(was.source, becomes.source, changes, (bad, taken_book.outdated(taken)))
    same = was.taken == taken and bad is None
    takes = not same and (yes or (not json and typer.confirm("Take it?")))
    if takes:
        _note(settings, asked)
        taken_book.keep(settings.storage.prices_file, taken)
    if json:
        output.document(asked | {"taken": takes})
    else:
        output.line(f"{becomes.source} is in force: a running server follows." if takes else "Nothing was taken.")


def _take(source: str) -> Taken:
    """The book at a path or an address, checked. Raises CommandError."""
    text = _fetch(source) if "://" in source else _read(Path(source))
    try:
        return taken_book.take(text, source, datetime.now(UTC).date())
    except ValueError as error:
        raise CommandError(f"{source[:200]} can't be taken: {error}") from None


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        text = opened.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise CommandError(f"{file} has more than {MOST_BYTES >> 20} MB: that is no price book")
    return text


def _fetch(url: str) -> bytes:
    """What stands at an address, within bounds of size and time. Raises CommandError."""
    give_up = time.monotonic() + FETCHED_WITHIN_S
    with httpx2.Client(timeout=10, headers={"accept-encoding": "identity"}, trust_env="https:" in url) as client:
        try:
            for _ in range(1 + MOST_REDIRECTS):
                _check_address(url)
                with client.stream("GET", url) as answer:
                    if answer.next_request is None:
                        return _body(answer, give_up)
                    url = str(answer.next_request.url)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise CommandError(f"{url[:200]} can't be fetched: {error or type(error).__name__}") from None
    raise CommandError(f"{url[:200]} can't be fetched: it leads on and on")


def _body(answer: httpx2.Response, give_up: float) -> bytes:
    """Its bytes as they come: what is compressed all the same isn't inflated. Raises CommandError, HTTPError."""
    if answer.status_code != 200:
        raise CommandError(f"{answer.url} can't be fetched: it answers {answer.status_code}")
    text = bytearray()
    for piece in answer.iter_raw():
        text += piece
        if len(text) > MOST_BYTES:
            raise CommandError(f"{answer.url} sends more than {MOST_BYTES >> 20} MB: that is no price book")
        if time.monotonic() > give_up:
            raise CommandError(f"{answer.url} can't be fetched: it takes more than {FETCHED_WITHIN_S} s")
    return bytes(text)


def _check_address(url: str) -> None:
    """Who can change what is fetched can change the bill. Raises CommandError, InvalidURL."""
    parts = httpx2.URL(url)
    if parts.userinfo:
        raise CommandError("an address with a name or a password in it isn't fetched: it would stand in the file")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.host)):
        raise CommandError(f"{url[:200]} isn't fetched: only https is, or http from this machine itself")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_force(file: Path) -> tuple[PriceBook, str | None]:
    """The book in force; where its file is bad, the package's and a sentence."""
    try:
        return PriceBook.load((), file), None
    except ValueError as error:
        return PriceBook.of(None), str(error)


def _note(settings: Settings, asked: dict[str, Any]) -> None:
    """Writes down who takes it, before it is taken."""
    after = {"price_book": asked["to"], "changes": len(asked["changes"])}
    with open_database(settings.storage).noting() as connection:
        audit.note(
            connection,
            "prices.update",
            "",
            at=unix_us(),
            actor=options.actor(),
            before={"price_book": asked["from"]},
            after=after,
        )


def _change(change: Change) -> dict[str, Any]:
    fields = change._asdict() | {"since": output.moment(change.since) if change.since else None}
    return {"from" if name == "was" else "to" if name == "becomes" else name: fields[name] for name in fields}


def _tell(was: str, becomes: str, changes: Sequence[Change], warnings: Iterable[str | None]) -> None:
    for warning in filter(None, warnings):
        output.wrapped(warning)
    output.line(f"{was} → {becomes}")
    if not changes:
        output.line("No rate changes.")
        return
    rows = []
    for (model, what, since), group in groupby(
        sorted(changes, key=lambda each: (each.model, each.what, each.since)),
        key=lambda each: (each.model, each.what, each.since),
    ):
        tiers = {each.tier: f"{each.was or '-'} → {each.becomes or '-'}" for each in group}
        rows.append((model, what, price_book.day_of(since) if since else "", *(tiers.get(tier, "") for tier in _TIERS)))
    output.table(("MODEL", "RATE", "FROM", *(tier.upper() for tier in _TIERS)), rows)
    output.line("\nUSD as the book states them. Days begin in Los Angeles; a rate without one always held.")
