"""Reads what Google exports of its own bill: Cloud Billing's cost table or BigQuery export, AI Studio's usage, as CSV.

Which columns these have is assumption R-EXPORT-COLUMNS, how a SKU is read R-SKU-NAMES-MODEL: docs/metering.md.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from proxy.billing.price_book import PACIFIC

FIELDS: dict[str, tuple[str, ...]] = {
    "day": ("usage start date", "usage_start_time", "date", "day"),
    "until": ("usage end date", "usage_end_time"),
    "model": ("model", "model id", "model name"),
    "sku": ("sku description", "sku.description", "sku_description", "sku"),
    "cost": ("unrounded cost", "cost"),
    "currency": ("currency",),
    "amount": ("usage amount", "usage.amount", "usage_amount", "usage"),
    "unit": ("usage unit", "usage.unit", "usage_unit"),
    "requests": ("requests", "api requests", "request count"),
    "input_tokens": ("input tokens", "input token count", "prompt tokens"),
    "output_tokens": ("output tokens", "output token count"),
    "service": ("service description", "service.description", "service_description", "service"),
    "cost_type": ("cost type", "cost_type"),
}
"""What is read of an export, and the columns that it may stand in, in small letters, without what is in brackets."""
MEASURES = ("cost", "requests", "input_tokens", "output_tokens")

HEAD_WITHIN = 50
"""Lines in which the head must stand: an invoice's own particulars stand before it."""
_SERVICES = re.compile(r"gemini|generative language", re.IGNORECASE)
_UNITS = {"count": 1, "counts": 1, "token": 1, "tokens": 1, "": 1, "thousand": 10**3, "1k": 10**3, "k": 10**3}
_UNITS |= {"million": 10**6, "1m": 10**6, "m": 10**6}
_OUTPUT = re.compile(r"\boutput\b(?=.*\btoken)|\boutput$", re.IGNORECASE)
_INPUT = re.compile(r"\b(input|cached|caching)\b", re.IGNORECASE)


class ExportUnreadable(Exception):
    """The file can't be read as an export; the text says why, and what to do."""


class Row(NamedTuple):
    """What Google charged a model in some days, `last` included. What isn't told is None."""

    first: date
    last: date
    model: str
    """The id of a model that is known, else what stands there."""
    cost: Decimal | None
    requests: int | None
    input_tokens: int | None
    output_tokens: int | None


class Export(NamedTuple):
    """An export's rows, the column that each field was read from, and what was left out: reason → rows and USD."""

    rows: list[Row]
    columns: dict[str, str]
    left_out: dict[str, tuple[int, Decimal]]


def read(lines: Iterable[str], models: Mapping[str, str], mapped: Mapping[str, str]) -> Export:
    """Reads a CSV. `models` are the names that models may have there, and their ids; `mapped` are columns by field.

    Raises ExportUnreadable.
    """
    if unknown := mapped.keys() - FIELDS.keys():
        raise ExportUnreadable(f"there is no field {', '.join(sorted(unknown))}: fields are {', '.join(FIELDS)}")
    table = enumerate(csv.reader(lines), 1)
    head, currency = _find_head(table, mapped)
    columns = _columns(head, mapped)
    names = _names(models)
    rows: list[Row] = []
    left_out: dict[str, tuple[int, Decimal]] = {}
    places = {field: head.index(column) for field, column in columns.items()}
    for number, cells in table:
        if not any(cells):
            continue
        values = {field: cells[at].strip() for field, at in places.items() if at < len(cells)}
        cost = _number(values.get("cost", ""), number)
        _check_currency(values.get("currency") or currency, number)
        if reason := _left_out(values):
            count, sum_ = left_out.get(reason, (0, Decimal(0)))
            left_out[reason] = count + 1, sum_ + (cost or 0)
        else:
            row = _row(values, cost, names, number)
            rows.append(row._replace(model=models.get(row.model, row.model)))
    return Export(rows, columns, left_out)


def _find_head(table: Iterable[tuple[int, list[str]]], mapped: Mapping[str, str]) -> tuple[list[str], str]:
    """The head, and the currency where it is told before. Raises ExportUnreadable."""
    widest: list[str] = []
    currency = ""
    for number, cells in table:
        cells = [cell.strip().lstrip("\ufeff") for cell in cells]
        if len(cells) > 1 and cells[0].lower() == "currency":
            currency = cells[1]
        if not _missing(_columns(cells, mapped)):
            for column in _columns(cells, mapped).values():
                if re.search(r"\((?!\$\))[^)]{1,3}\)$", column):
                    raise ExportUnreadable(f"the column {column!r} isn't in US dollars: export it in USD")
            return cells, currency
        widest = max(widest, cells, key=len)
        if number >= HEAD_WITHIN:
            break
    missing = _missing(_columns(widest, mapped)) or ["a head"]
    raise ExportUnreadable(
        f"no column is known to hold {' and '.join(missing)}. Columns there: {', '.join(widest) or 'none'}. "
        "Name it: --map FIELD=COLUMN"
    )


def _columns(head: Sequence[str], mapped: Mapping[str, str]) -> dict[str, str]:
    plain = {re.sub(r"\s*\([^)]*\)$", "", column.strip().lower()): column for column in reversed(head)}
    found = {}
    for field, known in FIELDS.items():
        wanted = (mapped[field],) if field in mapped else tuple(plain[name] for name in known if name in plain)
        if column := next((column for column in wanted if column in head), None):
            found[field] = column
    return found


def _missing(columns: Mapping[str, str]) -> list[str]:
    missing = [] if "day" in columns else ["the day (day)"]
    if "model" not in columns and "sku" not in columns:
        missing.append("the model (model, or sku)")
    if not any(measure in columns for measure in MEASURES):
        missing.append(f"what was used or charged ({', '.join(MEASURES)})")
    return missing


def _left_out(values: Mapping[str, str]) -> str:
    """Why a row is none of a model's usage; "" where it is."""
    if not re.search(r"\d", values.get("day", "")):
        return "rows without a day, such as totals"
    if (kind := values.get("cost_type", "")) and kind.lower() not in ("usage", "regular"):
        return f"cost type {kind}"
    if (service := values.get("service", "")) and not _SERVICES.search(service):
        return "other services"
    return ""


def _row(values: Mapping[str, str], cost: Decimal | None, names: Mapping[str, str], number: int) -> Row:
    first = _day(values["day"], number)
    last = _day(values["until"], number) if values.get("until") else first
    if last == first + timedelta(days=1):  # an end may be the first day that is no more counted
        last = first
    sku = values.get("sku", "")
    model = values.get("model", "").removeprefix("models/") or _model_of(sku, names) or sku
    counts = {name: _number(values.get(name, ""), number) for name in MEASURES[1:]}
    if (direction := _direction(sku)) and counts[direction] is None and values.get("unit", "").lower() in _UNITS:
        amount = _number(values.get("amount", ""), number)
        counts[direction] = None if amount is None else amount * _UNITS[values.get("unit", "").lower()]
    whole = {name: None if count is None else int(count) for name, count in counts.items()}
    return Row(first, last, model, cost, whole["requests"], whole["input_tokens"], whole["output_tokens"])


def _direction(sku: str) -> str | None:
    """Which tokens a SKU counts; None where it counts something else, or doesn't say."""
    if re.search(r"\b(storage|grounding|search)\b", sku, re.IGNORECASE):
        return None
    if _OUTPUT.search(sku):
        return "output_tokens"
    return "input_tokens" if _INPUT.search(sku) else None


def _names(models: Mapping[str, str]) -> dict[str, str]:
    """The words of each model's name, as a SKU may have them, and its id: the longest first, stable before preview."""
    words = {
        name.removesuffix("-preview").replace("-", " "): model for name, model in sorted(models.items(), reverse=True)
    }
    return dict(sorted(words.items(), key=lambda item: -len(item[0])))


def _model_of(sku: str, names: Mapping[str, str]) -> str:
    said = f" {re.sub(r'[^a-z0-9.]+', ' ', sku.lower())} "
    return next((model for words, model in names.items() if f" {words} " in said), "")


def _day(text: str, number: int) -> date:
    """The day in Los Angeles: a day as it stands, a time where it falls there."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text)
        at = datetime.fromisoformat(text.replace(" UTC", "+00:00").replace("Z", "+00:00"))
        return (at.astimezone(PACIFIC) if at.tzinfo else at).date()
    except ValueError:
        raise ExportUnreadable(f"line {number}: {text[:40]!r} is no day: it must read 2026-11-01") from None


def _number(text: str, number: int) -> Decimal | None:
    plain = text.replace(",", "").replace("$", "").replace(" ", "")
    if not plain:
        return None
    try:
        found = Decimal(plain)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite():
        raise ExportUnreadable(f"line {number}: {text[:40]!r} is no number")
    return found


def _check_currency(currency: str, number: int) -> None:
    if currency and currency.upper() != "USD":
        raise ExportUnreadable(f"line {number}: it is in {currency[:10]}, and the ledger is in USD: export in USD")
