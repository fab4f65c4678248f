"""A record is filled by what the response said, and costs what that comes to; else it keeps its estimate."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest

from proxy.billing import charge
from proxy.billing.prices import PriceBook
from proxy.billing.record_check import faults
from proxy.billing.records import UsageRecord
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.reading import Reading

BOOK = PriceBook.load()
AT = 1_795_219_200_000_000  # 2026-11-21


def record(model: str = "gemini-3.1-flash-image", **fields: Any) -> UsageRecord:
    names = {"key_id": "k", "key_name": "n", "upstream": "google", "project": "alice", "period": "2026-11-21"}
    return UsageRecord(
        record_id="r",
        request_id="q",
        started_at=AT,
        model=model,
        model_asked=model,
        **{"operation": "generateContent"} | names | fields,
    )


def reading(usage: dict[str, Any] | None, **fields: Any) -> Reading:
    return Reading(usage=None if usage is None else json.dumps(usage).encode(), complete=True, **fields)


PICTURE = {
    "promptTokenCount": 2076,
    "candidatesTokenCount": 1332,
    "thoughtsTokenCount": 137,
    "totalTokenCount": 3545,
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
    "serviceTier": "standard",
}


def test_a_picture_costs_its_image_tokens_and_the_rest_as_text() -> None:
    row = record()
    charge.charge_reading(row, reading(PICTURE, images=1), None, BOOK)
    # 0.50 in, 3 text out, 60 image out, in USD per million
    exact = Fraction("0.50") * 2076 + 3 * (1332 - 1120 + 137) + 60 * 1120
    assert row.cost_usd == exact * 1000
    assert (row.candidates_token_count, row.thoughts_token_count, row.total_token_count) == (1332, 137, 3545)
    assert row.candidates_tokens_details == {"IMAGE": 1120}
    assert not row.estimated


def test_the_cost_can_be_worked_out_again_from_the_row_alone() -> None:
    row = record()
    charge.charge_reading(row, reading(PICTURE, images=1), None, BOOK)
    assert row.rates is not None
    assert row.cost_usd == sum(quantity * rate for quantity, rate in row.rates.values()) // 1_000_000


def test_pictures_without_details_are_billed_as_pictures_even_where_the_version_is_unknown() -> None:
    row = record()
    usage = {name: value for name, value in PICTURE.items() if name != "candidatesTokensDetails"}
    charge.charge_reading(row, reading(usage, images=1, model_version="gemini-of-tomorrow"), "1K", BOOK)
    assert row.rates is not None
    assert row.rates["output_image"][0] == 1120
    assert row.priced_as == "gemini-3.1-flash-image"


def test_what_was_served_decides_the_price_and_not_what_was_asked() -> None:
    row = record("gemini-3.7-flash")
    charge.charge_reading(
        row, reading({"promptTokenCount": 10, "totalTokenCount": 10}, model_version="gemini-3.8-flash"), None, BOOK
    )
    assert row.priced_as == "gemini-3.8-flash"


def test_the_usage_is_kept_as_it_was_received() -> None:
    row = record()
    charge.charge_reading(row, Reading(usage=b'{"promptTokenCount":3,  "newField":[1]}', complete=True), None, BOOK)
    assert row.usage == '{"promptTokenCount":3,  "newField":[1]}'


def test_without_usage_the_estimate_stands_and_says_that_it_is_one() -> None:
    row = record()
    facts = BodyFacts(
        image_size="1K", candidates=1, max_output_tokens=None, inline_pictures=0, text_bytes=40, tools=False
    )
    charge.charge_estimate(row, facts, BOOK)
    before = row.cost_usd
    assert before is not None
    assert before >= 1120 * 60 * 1000
    assert charge.charge_reading(row, reading(None), None, BOOK) == {}
    assert (row.cost_usd, row.estimated, row.usage) == (before, True, None)


@pytest.mark.parametrize("fields", [{"unseen": True}, {"complete": False}])
def test_a_usage_that_may_not_be_the_last_is_an_estimate(fields: dict[str, bool]) -> None:
    row = record()
    found = reading(PICTURE)
    for name, value in fields.items():
        setattr(found, name, value)
    charge.charge_reading(row, found, None, BOOK)
    assert row.estimated


def test_a_model_without_a_price_costs_null_and_not_zero() -> None:
    row = record("gemini-nobody-knows")
    charge.charge_reading(row, reading({"promptTokenCount": 10, "totalTokenCount": 12}), None, BOOK)
    assert row.cost_usd is None


def test_a_request_that_failed_upstream_costs_nothing() -> None:
    row = record(cost_usd=5, estimated=True)
    charge.charge_nothing(row)
    assert (row.cost_usd, row.estimated) == (0, False)


def test_searches_are_charged_beside_the_tokens() -> None:
    row = record("gemini-3.8-flash")
    charge.charge_reading(row, reading({"promptTokenCount": 10, "totalTokenCount": 10}, searches=2), None, BOOK)
    assert row.cost_usd == 10 * 750 + 2 * 14_000_000
    assert row.searches == 2


@pytest.mark.parametrize(
    ("model", "search", "maps"),
    [("gemini-3.5-flash-lite", 2 * 14_000_000, 3 * 14_000_000), ("gemini-2.5-pro", 35_000_000, 25_000_000)],
)
def test_look_ups_of_places_are_charged_at_their_own_rate(model: str, search: int, maps: int) -> None:
    """By query, or once a prompt."""
    row, plain = record(model), record(model)
    usage = {"promptTokenCount": 10, "totalTokenCount": 10}
    charge.charge_reading(plain, reading(usage), None, BOOK)
    charge.charge_reading(row, reading(usage, searches=2, maps=3), None, BOOK)
    assert plain.cost_usd is not None
    assert row.cost_usd == plain.cost_usd + search + maps


@pytest.mark.parametrize(("images", "tokens"), [(0, 1120), (1, 1120), (3, 3360)])
def test_without_usage_every_picture_that_came_is_charged(images: int, tokens: int) -> None:
    row = record()
    charge.charge_estimate(row, BodyFacts(text_bytes=40), BOOK)
    charge.charge_reading(row, reading(None, images=images), None, BOOK)
    assert row.rates is not None
    assert {name: quantity for name, (quantity, _) in row.rates.items()} == {
        "input_text": 10,
        "output_image": tokens,
        "output_text": 400,
    }
    assert row.estimated


def test_a_picture_that_came_after_the_last_usage_seen_is_charged() -> None:
    row, prompt = record(), {"promptTokenCount": 9, "totalTokenCount": 9}
    found = Reading(usage=json.dumps(prompt).encode(), images=1)
    charge.charge_reading(row, found, "4K", BOOK)
    assert row.cost_usd == 9 * 500 + 2520 * 60_000
    assert row.estimated
    found.complete = True  # then the usage has it all: what it doesn't count isn't charged
    charge.charge_reading(row, found, "4K", BOOK)
    assert row.cost_usd == 9 * 500


def test_an_estimate_is_priced_as_who_answered_and_in_the_tier_that_served() -> None:
    row = record("gemini-2.5-pro")
    charge.charge_estimate(row, BodyFacts(text_bytes=40), BOOK)
    row.service_tier = "flex"
    charge.charge_reading(row, reading(None, model_version="gemini-2.5-flash"), None, BOOK)
    assert (row.priced_as, row.cost_usd) == ("gemini-2.5-flash", 10 * 150 + 1024 * 1250)
    row = record()
    charge.charge_estimate(row, BodyFacts(text_bytes=40), BOOK)
    charge.charge_reading(row, reading(None, model_version="gemini-2.5-flash"), None, BOOK)
    assert row.priced_as == "gemini-3.1-flash-image", "a model of text has no rate for the picture"


def test_searches_beside_a_usage_of_nothing_do_not_make_a_call_free() -> None:
    """No call takes no tokens: the estimate stands."""
    row = record("gemini-3.8-flash")
    charge.charge_estimate(row, BodyFacts(text_bytes=400), BOOK)
    before = row.cost_usd
    nothing = reading({"promptTokenCount": 0, "totalTokenCount": 0}, searches=2)
    assert charge.charge_reading(row, nothing, None, BOOK) == {}
    assert (row.cost_usd, row.estimated, row.searches) == (before, True, 2)


def test_a_usage_with_a_count_that_cannot_be_read_is_an_estimate() -> None:
    row = record()
    charge.charge_reading(row, reading({**PICTURE, "promptTokenCount": -1}), None, BOOK)
    assert row.estimated
    assert row.prompt_token_count is None


def test_what_a_call_without_a_price_weighed_stands_in_its_record() -> None:
    """So that it can be priced later, its estimate too."""
    row = record("gemini-5-neon")
    charge.charge_estimate(row, BodyFacts(text_bytes=40), BOOK)
    assert (row.cost_usd, row.rates) == (None, {"input_text": (10, None), "output_text": (1024, None)})
    charge.charge_reading(row, reading({"promptTokenCount": 7, "totalTokenCount": 9}), None, BOOK)
    assert (row.cost_usd, row.rates) == (None, {"input_text": (7, None), "output_text": (2, None)})


def test_a_quantity_without_a_rate_stands_beside_those_that_have_one() -> None:
    row = record("gemini-3.8-flash")
    audio = {"modality": "AUDIO", "tokenCount": 5}
    usage = {"promptTokenCount": 7, "totalTokenCount": 12, "candidatesTokensDetails": [audio]}
    charge.charge_reading(row, reading(usage), None, BOOK)
    assert row.cost_usd is None
    assert row.rates == {"input_text": (7, 750_000_000), "output_audio": (5, None)}


OPENAI = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 170,
    "prompt_tokens_details": {"cached_tokens": 40},
}


def test_openais_usage_is_charged_by_its_total_and_kept_as_it_came() -> None:
    row = record("gemini-3.8-flash", operation="openai.chat.completions")
    quantities = charge.charge_reading(row, reading(OPENAI), None, BOOK)
    assert quantities == {"input_text": 60, "cached_text": 40, "output_text": 70}
    # 0.75 in, 0.075 cached, 3.75 out, in USD per million
    assert row.cost_usd == 60 * 750 + 40 * 75 + 70 * 3750
    assert row.usage == json.dumps(OPENAI)
    assert (row.prompt_token_count, row.candidates_token_count, row.total_token_count) == (100, 20, 170)
    assert not row.estimated
    assert list(faults(row)) == []


@pytest.mark.parametrize(("images", "usd"), [(2, 2 * 1120 * 120_000), (0, 0)])
def test_pictures_of_the_compatibility_layer_are_charged_by_the_piece(images: int, usd: int) -> None:
    """Failed ones cost nothing, and an answer that is none but failed ones isn't one whose usage is missing."""
    row = record("gemini-3-pro-image", operation="openai.images.generations")
    charge.charge_estimate(row, BodyFacts(candidates=2, text_bytes=1000), BOOK)
    assert row.cost_usd == 2 * 1120 * 120_000
    quantities = charge.charge_reading(row, reading(None, images=images), None, BOOK)
    assert quantities == {"output_image": images * 1120}
    assert (row.cost_usd, row.images, row.estimated) == (usd, images, False)
    assert list(faults(row)) == []


@pytest.mark.parametrize("how", [{"uncounted": True}, {"errored": True}, {"complete": False}])
def test_pictures_that_may_have_passed_unseen_are_charged_as_estimated(how: dict[str, bool]) -> None:
    row = record("gemini-3-pro-image", operation="openai.images.generations")
    charge.charge_estimate(row, BodyFacts(candidates=3), BOOK)
    seen = Reading(**{"complete": True, "images": 1} | how)  # type: ignore[arg-type]
    charge.charge_reading(row, seen, None, BOOK)
    assert (row.cost_usd, row.estimated, row.images) == (3 * 1120 * 120_000, True, 1)


def test_a_picture_of_a_model_without_a_price_has_none_and_one_that_failed_costs_nothing() -> None:
    for images, usd in ((1, None), (0, 0)):
        row = record("imagen-4.0", operation="openai.images.generations")
        charge.charge_estimate(row, BodyFacts(), BOOK)
        charge.charge_reading(row, reading(None, images=images), None, BOOK)
        assert row.cost_usd == usd
