"""The usage record: one row a call, its row in the ledger file, its shape outside; how money and ids are written."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec


class UsageRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What stands in the ledger for one metered call that reached an upstream.

    Times are Unix microseconds, money is nano-dollars. `usage` is the usage object exactly as received. `rates` maps
    the name of each rate applied to [quantity, nano-dollars per million], so that the cost can be worked out again from
    the row alone: the sum of quantity x rate, divided once by a million, half to even. A quantity without a rate, which
    leaves the cost unknown, has None: what was weighed stands there all the same, to be priced later. Of an adjustment,
    which is no call, `cost_usd` is what it adds to the bill, `caused_by` the record that it corrects, and `hint` its
    reason.

    A field is a column of the ledger. One that is added later needs a default: older rows and open leases lack it.
    """

    record_id: str
    kind: str = "call"
    request_id: str
    caused_by: str | None = None
    started_at: int
    finished_at: int | None = None
    project: str
    key_id: str
    key_name: str
    upstream: str
    operation: str
    model: str
    model_version: str | None = None
    service_tier: str | None = None
    outcome: str = "unsettled"
    http_status: int | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    usage: str | None = None
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    thoughts_token_count: int | None = None
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: dict[str, int] | None = None
    candidates_tokens_details: dict[str, int] | None = None
    images: int = 0
    searches: int = 0
    cost_usd: int | None = None
    rates: dict[str, tuple[int, int | None]] | None = None
    model_asked: str
    priced_as: str | None = None
    price_source: str | None = None
    period: str
    estimated: bool = False
    hint: str | None = None
    attempts: list[dict[str, Any]] | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    first_byte_ms: int | None = None
    duration_ms: int | None = None


COLUMNS: tuple[str, ...] = UsageRecord.__struct_fields__

JSON_COLUMNS = ("prompt_tokens_details", "candidates_tokens_details", "rates", "attempts")
"""Columns whose value is an object or an array; the ledger file holds them as JSON text."""

_JSON_AT = tuple(COLUMNS.index(column) for column in JSON_COLUMNS)
_TIMES = ("started_at", "finished_at")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # UTC; without saying so it prints twice as fast
_NANO = 1_000_000_000
DRAWN_AT_ONCE = 64
FORMULA = "=+-@\t\r"
"""What a cell begins with that a spreadsheet runs."""
_PLAIN = re.compile(r"(?:[0-9A-Za-z_][0-9A-Za-z_:./-]*)?").fullmatch
"""Texts that CSV quotes in no case."""
_AMOUNTS = ("cost_usd", "Cost")
_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

_encoder = msgspec.json.Encoder()
_as_tuple = msgspec.structs.astuple


def to_row(record: UsageRecord) -> list[Any]:
    """The record as its row: values in the order of COLUMNS, maps and lists as JSON text."""
    row = list(_as_tuple(record))
    for at in _JSON_AT:
        if row[at] is not None:
            row[at] = _encoder.encode(row[at]).decode()
    return row


def from_row(columns: Iterable[str], row: Sequence[Any]) -> UsageRecord:
    """The record of a row. Columns that a record doesn't have are passed over; those that are missing are defaults."""
    values = dict(zip(columns, row, strict=True))
    for column in JSON_COLUMNS:
        if (text := values.get(column)) is not None:
            values[column] = msgspec.json.decode(text)
    values["estimated"] = bool(values["estimated"])
    return msgspec.convert(values, UsageRecord)


def to_json(record: UsageRecord) -> dict[str, Any]:
    """The record as it is shown outside: times in RFC 3339, money as decimal strings, usage and details as objects."""
    shown: dict[str, Any] = dict(zip(COLUMNS, _as_tuple(record), strict=True))
    for column in _TIMES:
        if shown[column] is not None:
            shown[column] = to_rfc3339(shown[column])
    if record.cost_usd is not None:
        shown["cost_usd"] = to_usd(record.cost_usd)
    if record.rates is not None:
        shown["rates"] = {
            name: {"quantity": quantity, "usd_per_million": None if rate is None else _rate_in_usd(rate)}
            for name, (quantity, rate) in record.rates.items()
        }
    if record.usage is not None:
        shown["usage"] = _parsed(record.usage)
    return shown


def as_cell(column: str, value: object) -> str:
    """A value as a cell of CSV.

    A text that a spreadsheet would run as a formula (a client chooses the model's name) gets an apostrophe before it;
    a negative amount doesn't.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value and value[0] in FORMULA and not column.endswith(_AMOUNTS) else value
    return _encoder.encode(value).decode()


class _Written(list[str]):
    """What a csv.writer writes to: line by line."""

    write = list[str].append


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of cells as lines of CSV, which end with \\n; null is an empty cell."""
    lines = _Written()
    # Before Python 3.13, a cell that holds a carriage return is quoted only if lines end with one.
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return "".join([f"{line[:-2]}\n" for line in lines])


def csv_cell(text: str) -> str:
    """A text as it stands in a line of CSV: see `as_cell`."""
    return text if _PLAIN(text) else csv_lines([[as_cell("", text)]]).removesuffix("\n")


def _parsed(usage: str) -> object:
    """The usage object; the text as it stands where it isn't JSON, so that one odd row doesn't end an export."""
    try:
        return msgspec.json.decode(usage)
    except msgspec.DecodeError:
        return usage


def to_rfc3339(unix_us: int) -> str:
    """Unix microseconds as RFC 3339 in UTC: 2026-11-21T14:37:00.000001Z."""
    minute, rest = divmod(unix_us, 60_000_000)
    seconds, us = divmod(rest, 1_000_000)
    return f"{to_minute(minute)}:{seconds:02}.{us:06}Z"


@lru_cache(1024)
def to_minute(number: int) -> str:
    """A minute since 1970: 2026-11-21T14:37. Records that are told together are of few."""
    return (_EPOCH + timedelta(minutes=number)).isoformat("T", "minutes")


def to_usd(nano_dollars: int) -> str:
    """Nano-dollars as an exact decimal string of dollars without needless zeros: 33_600_000 → "0.0336"."""
    return to_decimal(nano_dollars, 9)


def to_decimal(value: int, places: int) -> str:
    """`value` / 10 ** `places`, exactly, without needless zeros."""
    digits = f"{abs(value):0{places + 1}}"
    part = digits[-places:].rstrip("0")
    text = f"{digits[:-places]}.{part}" if part else digits[:-places]
    return f"-{text}" if value < 0 else text


_rate_in_usd = lru_cache(1024)(to_usd)
"""Rates are few."""


def from_usd(text: str) -> int:
    """Nano-dollars of an exact decimal string of dollars: "-1.5" → -1_500_000_000. Raises ValueError."""
    if not (found := re.fullmatch(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,9}))?", text)):
        raise ValueError("write dollars as a plain decimal number with at most nine places, such as -1.50")
    nano = int(found[2]) * _NANO + int((found[3] or "").ljust(9, "0"))
    return -nano if found[1] else nano


def id_maker(now_ms: Callable[[], int], random: Callable[[int], bytes]) -> Callable[[], str]:
    """A function that makes UUIDs of version 7 (RFC 9562), each greater than the one before, whatever the clock does.

    `now_ms` gives Unix milliseconds, `random` as many random bytes as it is asked for.
    """
    last = 0
    drawn: list[int] = []  # in advance: a draw is a system call

    def make() -> str:
        nonlocal last
        if not drawn:
            block = random(10 * DRAWN_AT_ONCE)
            drawn.extend(int.from_bytes(block[at : at + 10]) >> 6 for at in range(0, len(block), 10))
        fresh = now_ms() << 74 | drawn.pop()
        last = fresh if fresh > last else last + 1
        return _uuid7(last)

    return make


def made_at(text: str) -> int | None:
    """When an id of `id_maker` was made, in Unix microseconds; None for any other text."""
    found = _UUID7.fullmatch(text)
    return int(found[1] + found[2], 16) * 1000 if found else None


def first_id_of(unix_us: int) -> str:
    """The least id that `id_maker` could make then: a bound for what was made before or after."""
    return _uuid7(max(unix_us, 0) // 1000 << 74)


def _uuid7(value: int) -> str:
    """48 bits of milliseconds and 74 random bits, with version and variant put in between."""
    digits = f"{value >> 62:015x}"
    tail = f"{value & 0x3FFFFFFFFFFFFFFF | 0x8000000000000000:016x}"
    return f"{digits[:8]}-{digits[8:12]}-7{digits[12:]}-{tail[:4]}-{tail[4:]}"
