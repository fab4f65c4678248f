"""Reads from a ledger file what limits must know again: the day's calls, the last minute's, and what upstreams cost."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy.billing.ledger_reading import reading
from proxy.billing.records import UsageRecord
from proxy.errors import Outcome

OUT_OF_ORDER_US = 2 * 3600 * 1_000_000
"""Records stand in the order in which calls ended; a clock that was set back may have mixed them by so much."""

_CALLS = "kind IN ('call', 'turn')"
_decode = msgspec.json.Decoder(dict[str, tuple[int, int | None]]).decode


class Tally(NamedTuple):
    """How many calls a key made of a model in a day."""

    project: str
    key_id: str
    model: str
    calls: int


class UpstreamTally(NamedTuple):
    """How many calls of a model an upstream answered last."""

    upstream: str
    model: str
    calls: int


class Spending(NamedTuple):
    """What calls that started within one second cost at an upstream: nano-dollars.

    `started_at` is when the last of them did, in Unix microseconds.
    """

    upstream: str
    started_at: int
    usd: int


class Call(NamedTuple):
    """One call, as far as limits go by it. `started_at` is Unix microseconds."""

    project: str
    key_id: str
    upstream: str
    model: str
    started_at: int
    tokens: int
    images: int


def taken(record: UsageRecord) -> dict[str, int]:
    """What limits count of a call that has ended, by their kinds, as far as it is known; else the estimate stands.

    Google counts no tokens of a request that it answers with an error.
    """
    if record.outcome == Outcome.UPSTREAM_ERROR:
        return {"tpm": 0, "ipm": 0}
    if record.prompt_token_count is None:
        counted = record.images or not (record.estimated or record.outcome == Outcome.UNSETTLED)
        return {"ipm": record.images} if counted else {}
    return {"tpm": record.prompt_token_count, "ipm": record.images}


def tallies(file: Path, day: str, began_at: int) -> list[Tally]:
    """The calls of the day named `day`, which began at `began_at`. Raises LedgerUnusable."""
    with reading(file) as connection:
        first = _first_since(connection, began_at)
        return [
            Tally(*row)
            for row in connection.execute(
                f"SELECT project, key_id, model, count(*) FROM usage_records WHERE seq >= ? AND period = ? AND {_CALLS}"  # noqa: S608
                " GROUP BY project, key_id, model",
                (first, day),
            )
        ]


def upstream_tallies(file: Path, began_at: int, ended_at: int) -> list[UpstreamTally]:
    """The calls that started from `began_at` to before `ended_at`. Raises LedgerUnusable."""
    query = (
        f"SELECT upstream, model, count(*) FROM usage_records WHERE seq >= ? AND started_at >= ? AND started_at < ?"  # noqa: S608
        f" AND {_CALLS} GROUP BY upstream, model"
    )
    with reading(file) as connection:
        rows = connection.execute(query, (_first_since(connection, began_at), began_at, ended_at))
        return [UpstreamTally(*row) for row in rows]


def spendings(file: Path, since: int) -> list[Spending]:
    """What was spent at each upstream since, by second. Raises LedgerUnusable."""
    query = (
        "SELECT upstream, max(started_at), sum(cost_usd) FROM usage_records"  # noqa: S608
        f" WHERE seq >= ? AND started_at >= ? AND cost_usd > 0 AND {_CALLS} GROUP BY upstream, started_at / 1000000"
    )
    with reading(file) as connection:
        return [Spending(*row) for row in connection.execute(query, (_first_since(connection, since), since))]


def calls(file: Path, since: int) -> list[Call]:
    """The calls that started at `since` or later. Raises LedgerUnusable."""
    columns = "project, key_id, upstream, model, started_at, prompt_token_count, images, estimated, rates"
    with reading(file) as connection:
        query = f"SELECT {columns} FROM usage_records WHERE seq >= ? AND started_at >= ? AND {_CALLS}"  # noqa: S608
        return [_call(*row) for row in connection.execute(query, (_first_since(connection, since), since))]


def _call(
    project: str,
    key_id: str,
    upstream: str,
    model: str,
    started_at: int,
    tokens: int | None,
    images: int,
    estimated: bool,
    rates: str | None,
) -> Call:
    """A call whose usage nobody learned counts as what it is billed at."""
    if tokens is None:
        quantities = _decode(rates or "{}")
        tokens = sum(quantity for name, (quantity, _) in quantities.items() if name.startswith("input_"))
        images = images or int(estimated and "output_image" in quantities)
    return Call(project, key_id, upstream, model, started_at, tokens, images)


def _first_since(connection: sqlite3.Connection, at: int) -> int:
    """A seq that no record of a call that started at `at` or later stands before, found by halving."""
    ends = "SELECT (SELECT min(seq) FROM usage_records), (SELECT max(seq) FROM usage_records)"  # together, all is read
    low, high = (seq or 0 for seq in connection.execute(ends).fetchone())
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT seq, coalesce(finished_at, started_at) FROM usage_records WHERE seq >= ? ORDER BY seq LIMIT 1",
            (middle,),
        ).fetchone()
        if row[1] < at - OUT_OF_ORDER_US:
            low = row[0] + 1
        else:
            high = middle
    return int(low)
