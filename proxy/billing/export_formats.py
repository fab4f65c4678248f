"""What an export makes of a page of rows: JSON lines, CSV or FOCUS. Straight from the ledger's columns, for speed."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec

from proxy.billing import focus
from proxy.billing.records import COLUMNS, JSON_COLUMNS, UsageRecord, csv_cell, csv_lines, to_rfc3339, to_usd

Rows = Iterable[Sequence[Any]]
"""Rows of usage_records: seq, then COLUMNS."""

_JSON = [1 + COLUMNS.index(name) for name in ("usage", *JSON_COLUMNS)]
_TIMES = [1 + COLUMNS.index(name) for name in ("started_at", "finished_at")]
_USAGE, _RATES, _COST, _ESTIMATED = (1 + COLUMNS.index(at) for at in ("usage", "rates", "cost_usd", "estimated"))
_IDS = [1 + COLUMNS.index(name) for name in ("record_id", "request_id", "caused_by", "response_id")]
_TEXTS = {at for at, field in enumerate(msgspec.structs.fields(UsageRecord), 1) if field.type in (str, str | None)}
_WORDS = sorted(_TEXTS - {*_IDS, _USAGE})
"""Texts of which there are few, each in many records."""
_words = itemgetter(*_WORDS)
_others = itemgetter(*(at for at in range(1, len(COLUMNS) + 1) if at not in _WORDS))
_QUOTE, _TWO_QUOTES = '"', '""'
_encode = msgspec.json.Encoder().encode
_rates_of = msgspec.json.Decoder(dict[str, tuple[int, int | None]]).decode


def jsonl(rows: Rows) -> bytes:
    """A line a record: what records.to_json makes of it, usage and details in the very digits that stand there."""
    lines = bytearray()
    for stored in rows:
        row = _told(stored)
        row[_ESTIMATED] = bool(row[_ESTIMATED])
        for at in _JSON:
            if (text := row[at]) is not None:
                row[at] = msgspec.Raw(text)
        lines += _encode(dict(zip(COLUMNS, row[1:], strict=True)))
        lines += b"\n"
    return bytes(lines)


def comma_separated(rows: Rows) -> bytes:
    """A line a record, with objects as JSON text and null as an empty cell. See records.as_cell for formulas."""
    lines = []
    for stored in rows:
        row = _told(stored)
        row[_ESTIMATED] = "true" if row[_ESTIMATED] else "false"
        for at in _IDS:
            row[at] = csv_cell(row[at] or "")
        for at in _JSON:
            if (text := row[at]) is not None:
                row[at] = f'"{text.replace(_QUOTE, _TWO_QUOTES)}"'
        lines.append(_csv_line(_words(stored)) % tuple(["" if value is None else value for value in _others(row)]))
    return "".join(lines).encode()


@lru_cache(4096)
def _csv_line(words: tuple[str | None, ...]) -> str:
    """The line of the records that have these words, with %s for each other column."""
    cells = ["%s"] * len(COLUMNS)
    for at, word in zip(_WORDS, words, strict=True):
        cells[at - 1] = csv_cell(word or "").replace("%", "%%")
    return ",".join(cells) + "\n"


def focus_lines(rows: Rows) -> bytes:
    return focus.lines(rows).encode()


def _told(stored: Sequence[Any]) -> list[Any]:
    """A row with what both formats write alike: times, money, and JSON as compact text of its own."""
    row = list(stored)
    for at in _TIMES:
        if row[at] is not None:
            row[at] = to_rfc3339(row[at])
    if row[_COST] is not None:
        row[_COST] = to_usd(row[_COST])
    if row[_RATES] is not None:
        row[_RATES] = _rates(row[_RATES])
    if row[_USAGE] is not None:
        row[_USAGE] = _compact(row[_USAGE])
    return row


def _rates(text: str) -> str:
    """As records.to_json tells them."""
    told = [f"{_opened(name)}{quantity}{_closed(rate)}" for name, (quantity, rate) in _rates_of(text).items()]
    return f"{{{','.join(told)}}}"


@lru_cache(256)
def _opened(name: str) -> str:
    return f'{_encode(name).decode()}:{{"quantity":'


@lru_cache(1024)
def _closed(rate: int | None) -> str:
    return f',"usd_per_million":{_encode(None if rate is None else to_usd(rate)).decode()}}}'


def _compact(usage: str) -> str:
    """The usage object on one line; what isn't JSON as a JSON string, so that one odd row ends no export."""
    try:
        return msgspec.json.format(usage, indent=-1)
    except msgspec.DecodeError:
        return _encode(usage).decode()


FORMATS: dict[str, Callable[[Rows], bytes]] = {"jsonl": jsonl, "csv": comma_separated, "focus": focus_lines}
"""What each format makes of rows."""
READ: dict[str, Container[str]] = {"jsonl": COLUMNS, "csv": COLUMNS, "focus": focus.READ}
"""The columns that each is made of."""
HEADS: dict[str, bytes] = {
    "jsonl": b"",
    "csv": csv_lines([COLUMNS]).encode(),
    "focus": csv_lines([focus.COLUMNS]).encode(),
}
