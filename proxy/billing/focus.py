"""Usage records in the columns of FOCUS 1.2, the FinOps Open Cost and Usage Specification: a row for each rate applied.

https://focus.finops.org/focus-specification/v1-2: all its mandatory columns, its recommended ones that can be known,
and of the conditional ones those that apply. docs/metering.md says where each comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from proxy.billing.price_book import PACIFIC, PER_1000
from proxy.billing.records import COLUMNS as RECORD_COLUMNS
from proxy.billing.records import as_cell, csv_cell, csv_lines, made_at, to_decimal, to_minute, to_usd

COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart"),
    *("ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart"),
    *("ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost"),
    *("InvoiceIssuerName", "ListCost", "ListUnitPrice"),
    *("PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName"),
    *("ResourceId", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory"),
    *("SkuId", "SkuMeter", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags"),
    *("x_RecordId", "x_RequestId", "x_Outcome", "x_Estimated", "x_Unpriced"),
)
_MILLION = 1_000_000
_encode = msgspec.json.Encoder().encode
_rates_of = msgspec.json.Decoder(dict[str, tuple[int, int | None]]).decode

_OWN = (
    *("BilledCost", "BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"),
    *("ConsumedQuantity", "ContractedCost", "EffectiveCost", "ListCost", "PricingQuantity"),
    *("x_RecordId", "x_RequestId"),
)
"""Columns that differ from one call to the next, in the order of COLUMNS. The others are made once for many calls."""


class _Same(NamedTuple):
    """What many calls have in common, all of which their other columns are made of."""

    upstream: str
    project: str
    key_id: str
    key_name: str
    operation: str
    model: str
    service_tier: str | None
    priced_as: str | None
    outcome: str
    estimated: int


_same = itemgetter(*(1 + RECORD_COLUMNS.index(name) for name in _Same._fields))
_OWN_OF_RECORD = (
    *("kind", "started_at", "finished_at", "cost_usd", "rates"),
    *("total_token_count", "record_id", "request_id"),
)
READ = frozenset((*_Same._fields, *_OWN_OF_RECORD, "caused_by", "hint"))
"""The columns of a record that its lines are made of."""
_own = itemgetter(*(1 + RECORD_COLUMNS.index(name) for name in _OWN_OF_RECORD))


def lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of usage_records (seq, then its columns) as lines of CSV, one for each rate applied; null is an empty cell.

    BilledCost adds up to the record's cost; ListCost is quantity x rate, exactly.
    """
    written: list[str] = []
    for row in rows:
        kind, started_at, finished_at, cost, rates, tokens, record_id, request_id = _own(row)
        if kind == "adjustment":
            written.append(_adjustment(row))
            continue
        templates = _templates(_same(row), cost is None)
        period_start, period_end = _month(started_at // 3_600_000_000)
        end, start = _moment(_after(started_at, finished_at)), _moment(started_at // 1_000_000)
        of, request = csv_cell(record_id), csv_cell(request_id)
        for name, quantity, rate, part in _charges(cost, rates, tokens):
            billed, exact = to_usd(part), quantity * rate
            # Nano-dollars x quantity / million, in 15 decimal places: exact.
            listed = billed if exact == part * _MILLION else to_decimal(exact, 15)
            written.append(
                templates[name, rate]
                % (
                    *(billed, period_end, period_start, end, start, quantity, listed, billed, listed),
                    *(_millions(quantity), of, request),
                )
            )
    return "".join(written)


class _Templates(dict[tuple[str, int], str]):
    """Lines of calls that have so much in common: by a rate's name and itself, with %s for each of _OWN."""

    def __init__(self, same: _Same, *, unpriced: bool) -> None:
        self._same = same
        self._shared = _shared(same) | {"x_Unpriced": str(unpriced).lower()}

    def __missing__(self, charged: tuple[str, int]) -> str:
        cells = self._shared | _charge(self._same, *charged)
        line = _line({column: cell.replace("%", "%%") for column, cell in cells.items()} | dict.fromkeys(_OWN, "%s"))
        self[charged] = line
        return line


@lru_cache(4096)
def _templates(same: tuple[Any, ...], unpriced: bool) -> _Templates:  # a key of the cache
    return _Templates(_Same(*same), unpriced=unpriced)


def _charges(cost: int | None, rates: str | None, tokens: int | None) -> list[tuple[str, int, int, int]]:
    """Each rate's name, quantity, nano-dollars per million, and its part of the cost in nano-dollars.

    Parts are cut off to whole nano-dollars, and what is left is the last one's. Without a cost, all is free here.
    """
    charged = _rates_of(rates) if rates and cost is not None else None
    if cost is None or not charged:
        return [("", tokens or 0, 0, cost or 0)]
    parts, left = [], cost
    for name, (quantity, rate) in charged.items():
        part = quantity * (rate or 0) // _MILLION
        left -= part
        parts.append((name, quantity, rate or 0, part))
    name, quantity, last_rate, part = parts[-1]
    parts[-1] = name, quantity, last_rate, part + left
    return parts


def _shared(same: _Same) -> dict[str, str]:
    return {
        "BillingAccountId": same.upstream or "weighbridge",  # an adjustment may be of no upstream
        "BillingAccountName": same.upstream,
        "BillingCurrency": "USD",
        "InvoiceIssuerName": "Google",
        "ProviderName": "Google",
        "PublisherName": "Google",
        "ResourceId": same.model,
        "ResourceType": "Model" if same.model else "",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Gemini API",
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": same.project,
        "SubAccountName": same.project,
        "SubAccountType": "Project",
        "Tags": _encode({"weighbridge/key_id": same.key_id, "weighbridge/key_name": same.key_name}).decode(),
        "x_Outcome": same.outcome,
        "x_Estimated": str(bool(same.estimated)).lower(),
    }


def _charge(same: _Same, name: str, rate: int) -> dict[str, str]:
    requests = name in PER_1000
    tier, model = same.service_tier or "standard", same.priced_as or same.model
    return {
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{model} {same.operation} {name}".rstrip(),
        "ChargeFrequency": "Usage-Based",
        "ConsumedUnit": "Requests" if requests else "Tokens",
        "ContractedUnitPrice": to_usd(rate),
        "ListUnitPrice": to_usd(rate),
        "PricingCategory": "Standard",
        "PricingUnit": "1000000 Requests" if requests else "1000000 Tokens",
        "SkuId": model,
        "SkuMeter": name,
        "SkuPriceId": f"{model}/{tier}/{name}" if name else "",
    }


def _adjustment(row: Sequence[Any]) -> str:
    """What was added or taken off by hand; of a call in a month before, a correction."""
    record = dict(zip(RECORD_COLUMNS, row[1:], strict=True))
    started_at, cost = record["started_at"], to_usd(record["cost_usd"] or 0)
    corrects = made_at(record["caused_by"]) if record["caused_by"] else None
    period = start, end = _month(started_at // 3_600_000_000)
    earlier = corrects is not None and _month(corrects // 3_600_000_000) != period
    return _line(
        {
            **_shared(_Same(*_same(row))),
            **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
            "BillingPeriodEnd": end,
            "BillingPeriodStart": start,
            "ChargeCategory": "Adjustment",
            "ChargeClass": "Correction" if earlier else "",
            "ChargeDescription": record["hint"] or "",
            "ChargeFrequency": "One-Time",
            "ChargePeriodEnd": _moment(_after(started_at, record["finished_at"])),
            "ChargePeriodStart": _moment(started_at // 1_000_000),
            "x_RecordId": record["record_id"],
            "x_RequestId": record["request_id"],
            "x_Unpriced": str(record["cost_usd"] is None).lower(),
        }
    )


def _line(values: dict[str, str]) -> str:
    return csv_lines([[as_cell(column, values.get(column, "")) for column in COLUMNS]])


def _after(started_at: int, finished_at: int | None) -> int:
    """The second that a charge ends before: whole seconds are all that FOCUS has, and a period isn't empty."""
    return max(finished_at or 0, started_at) // 1_000_000 + 1


@lru_cache(16_384)
def _millions(quantity: int) -> str:
    return to_decimal(quantity, 6)


@lru_cache(64)
def _month(hour: int) -> tuple[str, str]:
    """The month in Los Angeles, by which Google bills, of an hour since 1970: its start and end."""
    at = datetime.fromtimestamp(hour * 3600, PACIFIC)
    start = datetime(at.year, at.month, 1, tzinfo=PACIFIC)
    after = (start + timedelta(days=32)).replace(day=1)
    return _moment(int(start.timestamp())), _moment(int(after.timestamp()))


def _moment(unix_s: int) -> str:
    minute, seconds = divmod(unix_s, 60)
    return f"{to_minute(minute)}:{seconds:02}Z"
