"""Usage records in the columns of FOCUS 1.2."""

from __future__ import annotations

import csv
import io
import json
import random
from decimal import Decimal
from typing import Any

import pytest

from proxy.billing import focus
from proxy.billing.price_book import RATE_NAMES
from proxy.billing.rate_tables import divide_half_even
from proxy.billing.records import UsageRecord, id_maker, to_row, to_usd
from tests.billing.sample import NOON, sample

DAY = 86_400_000_000

# The specification's own words: https://focus.finops.org/focus-specification/v1-2
MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}
MAY_BE_NULL = {"BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit"}


def told(record: UsageRecord) -> list[dict[str, str]]:
    """What a spreadsheet reads of the lines of a record."""
    lines = io.StringIO(focus.lines([(1, *to_row(record))]), newline="")
    return list(csv.DictReader(lines, focus.COLUMNS, strict=True))


@pytest.mark.parametrize(("name", "unit"), [("search", "Requests"), ("maps", "Requests"), ("input_text", "Tokens")])
def test_what_is_no_token_is_a_request(name: str, unit: str) -> None:
    [row] = told(sample("a", rates={name: (2, 14_000_000_000_000)}, cost_usd=28_000_000))
    assert (row["ConsumedUnit"], row["PricingUnit"]) == (unit, f"1000000 {unit}")


def adjustment(**changes: Any) -> UsageRecord:
    values = {"kind": "adjustment", "operation": "adjustment", "rates": None, "cost_usd": -1_500_000_000}
    return sample("adj_1", **values | {"hint": "the picture was torn"} | changes)


@pytest.mark.parametrize(
    "record",
    [
        sample("a"),
        sample("a", cost_usd=None, rates={}),
        sample("a", cost_usd=None, rates=None, usage=None, total_token_count=None, model_version=None),
        sample("a", cost_usd=0, rates={}, outcome="upstream_error"),
        sample("a", finished_at=None),
        adjustment(),
        adjustment(upstream="", model="", key_id="", key_name="", request_id=""),
    ],
)
def test_every_row_has_what_the_specification_asks_of_every_row(record: UsageRecord) -> None:
    assert set(focus.COLUMNS) >= MANDATORY
    assert len(set(focus.COLUMNS)) == len(focus.COLUMNS)
    for row in told(record):
        assert [column for column in MANDATORY - MAY_BE_NULL if not row[column]] == []
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["BillingPeriodEnd"]
        assert (row["PricingQuantity"] == "") == (row["PricingUnit"] == "")
        assert (row["ConsumedQuantity"] == "") == (row["ConsumedUnit"] == "")
        assert (row["ChargeCategory"] == "Usage") == (row["PricingQuantity"] != "")
        assert json.loads(row["Tags"])


def test_each_rate_is_a_row_with_its_quantity_price_and_part_of_the_cost() -> None:
    text, image = told(sample("a", service_tier="flex", priced_as="gemini-2.5-flash-image"))
    assert (text["SkuMeter"], text["ConsumedQuantity"], text["ConsumedUnit"]) == ("input_text", "7", "Tokens")
    assert (text["PricingQuantity"], text["PricingUnit"], text["ListUnitPrice"]) == (
        "0.000007",
        "1000000 Tokens",
        "0.3",
    )
    assert (text["BilledCost"], image["BilledCost"]) == ("0.0000021", "0.0336")
    assert image["SkuPriceId"] == "gemini-2.5-flash-image/flex/output_image"
    assert (image["SubAccountId"], json.loads(image["Tags"])["weighbridge/key_id"]) == ("acme", "k1")
    assert (image["BillingPeriodStart"], image["BillingPeriodEnd"]) == ("2026-11-01T07:00:00Z", "2026-12-01T08:00:00Z")


def test_what_is_billed_adds_up_to_the_cost_and_every_list_price_is_exact() -> None:
    chance = random.Random(5)
    for _ in range(500):
        names = chance.sample(RATE_NAMES, chance.randint(1, len(RATE_NAMES)))
        rates = {name: (chance.randrange(1, 10**6), chance.randrange(10**11)) for name in names}
        cost = divide_half_even(sum(quantity * rate for quantity, rate in rates.values()))
        rows = told(sample("a", rates=rates, cost_usd=cost))
        assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal(to_usd(cost))
        for row in rows:
            assert Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"]) == Decimal(row["ListCost"])
            assert abs(Decimal(row["ListCost"]) - Decimal(row["BilledCost"])) < Decimal("1e-7")


def test_a_call_without_a_price_is_a_row_that_says_so() -> None:
    [row] = told(sample("a", cost_usd=None, rates={"input_text": (7, 1)}))
    assert (row["BilledCost"], row["ConsumedQuantity"], row["x_Unpriced"]) == ("0", "1127", "true")


def test_an_adjustment_is_no_usage_and_a_correction_where_it_corrects_a_month_before() -> None:
    def of(days: int) -> str:
        return id_maker(lambda: (NOON + days * DAY) // 1000, lambda count: bytes(count))()

    [row] = told(adjustment())
    assert (row["ChargeCategory"], row["ChargeClass"], row["BilledCost"]) == ("Adjustment", "", "-1.5")
    assert (row["ChargeDescription"], row["ConsumedQuantity"]) == ("the picture was torn", "")
    assert told(adjustment(caused_by=of(-5)))[0]["ChargeClass"] == ""
    assert told(adjustment(caused_by=of(-25)))[0]["ChargeClass"] == "Correction"
    assert told(adjustment(caused_by="adj_0"))[0]["ChargeClass"] == ""


def test_calls_that_have_much_in_common_are_told_apart_in_all_that_they_have_not() -> None:
    """Lines are made from what many calls share: nothing of one may get into the next."""
    changes: list[dict[str, Any]] = [
        {"upstream": "other"},
        {"project": "zeta, inc"},
        {"key_id": "k2"},
        {"key_name": 'the "web" 100%s'},
        {"operation": "streamGenerateContent"},
        {"model": "=1+1"},
        {"service_tier": "flex"},
        {"priced_as": "p"},
        {"outcome": "client_gone"},
        {"estimated": True},
        {"cost_usd": None},
        {"cost_usd": 33_602_101},
        {"rates": {"input_text": (8, 300_000_000), "output_image": (1120, 30_000_000_000)}},
        {"rates": {"input_text": (7, 400_000_000), "output_image": (1120, 30_000_000_000)}},
        {"started_at": NOON - 30 * DAY},
        {"finished_at": NOON + 9_000_000},
        {"request_id": 'q,"1"'},
    ]
    one = told(sample("a"))
    for change in changes:
        other = told(sample("a", **change))
        assert other != one, change
        assert told(sample("a")) == one
    [text, _] = told(sample("=a", project="zeta, inc", key_name='the "web" 100%s', request_id='q,"1"'))
    assert (text["SubAccountId"], text["x_RecordId"], text["x_RequestId"]) == ("zeta, inc", "'=a", 'q,"1"')
    assert json.loads(text["Tags"])["weighbridge/key_name"] == 'the "web" 100%s'
