"""One record held against itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.billing import charge
from proxy.billing.prices import PriceBook
from proxy.billing.record_check import faults
from proxy.billing.records import UsageRecord
from proxy.gemini.reading import Reading
from tests.billing.sample import sample

USAGE = {
    "promptTokenCount": 7,
    "candidatesTokenCount": 1120,
    "totalTokenCount": 1127,
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
}


READ = {"input_text": (7, 300_000_000)}
MADE = {"output_image": (1120, 30_000_000_000)}


def whole(**changes: Any) -> UsageRecord:
    return sample("a", **{"usage": json.dumps(USAGE)} | changes)


def checks(record: UsageRecord) -> list[str]:
    return [check for check, _ in faults(record)]


@pytest.mark.parametrize(
    "record",
    [
        whole(),
        whole(outcome="upstream_error", cost_usd=0, rates={}, usage=None),
        whole(outcome="truncated", usage=None, estimated=True),
        whole(cost_usd=None, rates={}),
        whole(cost_usd=None, rates=READ),
        whole(usage="{}", prompt_token_count=None, candidates_token_count=None, total_token_count=None),
        whole(kind="adjustment", usage=None, rates=None, cost_usd=-5),
        whole(searches=3, rates=READ | MADE | {"search": (1, 0)}),  # one a prompt
    ],
)
def test_what_fits_has_no_faults(record: UsageRecord) -> None:
    assert list(faults(record)) == []


@pytest.mark.parametrize(
    ("record", "check"),
    [
        (whole(cost_usd=33_602_101), "cost"),
        (whole(rates=None), "cost"),
        (whole(rates=MADE | {"input_text": (7, 300_000_001)}), ""),  # below half a nano-dollar
        (whole(outcome="upstream_error", usage=None), "cost"),
        (whole(kind="adjustment", cost_usd=None), "cost"),
        (whole(prompt_token_count=8), "usage"),
        (
            whole(rates={"input_text": (8, 300_000_000), "output_image": (1120, 30_000_000_000)}, cost_usd=33_602_400),
            "usage",
        ),
        (whole(rates=MADE, cost_usd=33_600_000), "usage"),
        (whole(searches=3, rates=READ | MADE | {"search": (2, 0)}), "usage"),
        (whole(kind="gift"), "record"),
        (whole(outcome="lost"), "record"),
    ],
)
def test_what_does_not_fit_is_told_by_the_check_that_it_failed(record: UsageRecord, check: str) -> None:
    assert checks(record) == ([check] if check else [])


def test_pictures_that_came_may_be_charged_beyond_an_incomplete_usage() -> None:
    """And nothing else may, nor may they where all was seen."""
    rates = READ | {"output_image": (2240, 30_000_000_000)}
    cost = sum(quantity * rate for quantity, rate in rates.values()) // 1_000_000
    assert checks(whole(rates=rates, cost_usd=cost, images=2, estimated=True)) == []
    assert checks(whole(rates=rates, cost_usd=cost, images=2)) == ["usage"]
    assert checks(whole(rates=rates, cost_usd=cost, images=0, estimated=True)) == ["usage"]


@pytest.mark.parametrize("details", ["IMAGE", "TEXT", None])
@pytest.mark.parametrize("model", ["gemini-3-pro-image", "gemini-3.8-flash", "gemini-2.5-flash-image", "none-such"])
def test_whatever_is_charged_by_the_meter_fits(model: str, details: str | None) -> None:
    """Pictures with and without details, cached tokens, tools, thoughts and searches, as charge.py prices them."""
    book = PriceBook.load()
    usage: dict[str, Any] = {
        "promptTokenCount": 2_000,
        "cachedContentTokenCount": 512,
        "toolUsePromptTokenCount": 30,
        "thoughtsTokenCount": 77,
        "candidatesTokenCount": 2_300,
        "totalTokenCount": 4_407,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 900}, {"modality": "IMAGE", "tokenCount": 1_100}],
    }
    if details:
        usage["candidatesTokensDetails"] = [{"modality": details, "tokenCount": 2_240}]
    record = whole(model=model, model_asked=model, rates=None, cost_usd=None, usage=None)
    reading = Reading(usage=json.dumps(usage).encode(), images=2, searches=4, maps=1)
    charge.charge_reading(record, reading, "1K", book)
    assert record.rates or model == "none-such"
    assert list(faults(record)) == []
