"""Usage records in the columns of FOCUS 1.2, the FinOps Open Cost and Usage Specification: a row for each rate applied.

https://focus.finops.org/focus-specification/v1-2: all its mandatory columns, its recommended ones that can be known,
and of the conditional ones those that apply. docs/metering.md says where each comes from.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from proxy.billing.price_book import PACIFIC, PER_1000
from proxy.billing.records import UsageRecord, as_cell, made_at, to_usd

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


def rows(record: UsageRecord) -> list[list[str]]:
    """A record as cells in the order of COLUMNS, a row for each rate applied; null is an empty cell.

    BilledCost adds up to the record's cost; ListCost is quantity x rate, exactly.
    """
    shared = _shared(record)
    if record.kind == "adjustment":
        return [_cells(shared | _adjustment(record))]
    return [_cells(shared | _charge(record, *charge)) for charge in _charges(record)]


def _charges(record: UsageRecord) -> list[tuple[str, int, int, int]]:
    """Each rate's name, quantity, nano-dollars per million, and its part of the cost in nano-dollars.

    Parts are cut off to whole nano-dollars, and what is left is the last one's. Without a cost, all is free here.
    """
    if record.cost_usd is None or not record.rates:
        return [("", record.total_token_count or 0, 0, record.cost_usd or 0)]
    rates = ((name, quantity, rate or 0) for name, (quantity, rate) in record.rates.items())
    parts = [(name, quantity, rate, quantity * rate // _MILLION) for name, quantity, rate in rates]
    name, quantity, rate, part = parts[-1]
    rest = record.cost_usd - sum(each[3] for each in parts)
    return [*parts[:-1], (name, quantity, rate, part + rest)]


def _shared(record: UsageRecord) -> dict[str, str]:
    start, end = _month(record.started_at // 3_600_000_000)
    return {
        "BillingAccountId": record.upstream or "weighbridge",  # an adjustment may be of no upstream
        "BillingAccountName": record.upstream,
        "BillingCurrency": "USD",
        "BillingPeriodEnd": end,
        "BillingPeriodStart": start,
        # Whole seconds are all that FOCUS has; a period isn't empty.
        "ChargePeriodEnd": _moment(max(record.finished_at or 0, record.started_at) // 1_000_000 + 1),
        "ChargePeriodStart": _moment(record.started_at // 1_000_000),
        "InvoiceIssuerName": "Google",
        "ProviderName": "Google",
        "PublisherName": "Google",
        "ResourceId": record.model,
        "ResourceType": "Model" if record.model else "",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Gemini API",
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": record.project,
        "SubAccountName": record.project,
        "SubAccountType": "Project",
        "Tags": _encode({"weighbridge/key_id": record.key_id, "weighbridge/key_name": record.key_name}).decode(),
        "x_RecordId": record.record_id,
        "x_RequestId": record.request_id,
        "x_Outcome": record.outcome,
        "x_Estimated": str(record.estimated).lower(),
        "x_Unpriced": str(record.cost_usd is None).lower(),
    }


def _charge(record: UsageRecord, name: str, quantity: int, rate: int, billed: int) -> dict[str, str]:
    requests = name in PER_1000
    # Nano-dollars x quantity / million, in 15 decimal places: exact.
    listed = _decimal(quantity * rate, 15)
    tier, model = record.service_tier or "standard", record.priced_as or record.model
    return {
        "BilledCost": to_usd(billed),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{model} {record.operation} {name}".rstrip(),
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": str(quantity),
        "ConsumedUnit": "Requests" if requests else "Tokens",
        "ContractedCost": listed,
        "ContractedUnitPrice": to_usd(rate),
        "EffectiveCost": to_usd(billed),
        "ListCost": listed,
        "ListUnitPrice": to_usd(rate),
        "PricingCategory": "Standard",
        "PricingQuantity": _decimal(quantity, 6),
        "PricingUnit": "1000000 Requests" if requests else "1000000 Tokens",
        "SkuId": model,
        "SkuMeter": name,
        "SkuPriceId": f"{model}/{tier}/{name}" if name else "",
    }


def _adjustment(record: UsageRecord) -> dict[str, str]:
    """What was added or taken off by hand; of a call in a month before, a correction."""
    cost = to_usd(record.cost_usd or 0)
    corrects = made_at(record.caused_by) if record.caused_by else None
    month = _month(record.started_at // 3_600_000_000)
    earlier = corrects is not None and _month(corrects // 3_600_000_000) != month
    return {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        "ChargeCategory": "Adjustment",
        "ChargeClass": "Correction" if earlier else "",
        "ChargeDescription": record.hint or "",
        "ChargeFrequency": "One-Time",
    }


def _cells(values: dict[str, str]) -> list[str]:
    return [as_cell(column, values.get(column, "")) for column in COLUMNS]


@lru_cache(64)
def _month(hour: int) -> tuple[str, str]:
    """The month in Los Angeles, by which Google bills, of an hour since 1970: its start and end."""
    at = datetime.fromtimestamp(hour * 3600, PACIFIC)
    start = datetime(at.year, at.month, 1, tzinfo=PACIFIC)
    after = (start + timedelta(days=32)).replace(day=1)
    return _moment(int(start.timestamp())), _moment(int(after.timestamp()))


@lru_cache(1024)
def _moment(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decimal(value: int, places: int) -> str:
    """`value` / 10 ** `places`, exactly."""
    whole, part = divmod(abs(value), 10**places)
    text = f"{whole}.{part:0{places}d}".rstrip("0").removesuffix(".")
    return f"-{text}" if value < 0 else text
