"""Records priced anew: the book in force for their own time, to the nano-dollar, once, and nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import adjustments, reports, rerating
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import divide_half_even
from proxy.billing.records import UsageRecord, to_usd
from proxy.billing.rerating import Selection
from tests.billing.sample import NOON, sample

DAY = 86_400_000_000
ALL = Selection(0, 2**62)
BOOK = PriceBook.of(None)


def priced(model: str, begins: date | None = None, **usd: str) -> PriceBook:
    rates = {name: Decimal(rate) for name, rate in usd.items()}
    return PriceBook.of(None, [SimpleNamespace(model=model, from_=begins, **rates)])


def write(data_dir: Path, records: Sequence[UsageRecord]) -> list[Path]:
    async def fill() -> None:
        ledger = Ledger.open(data_dir, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
        for record in records:
            await ledger.write(record)
        await ledger.close()

    asyncio.run(fill())
    return ledger_files(data_dir)


def rerate(data_dir: Path, book: PriceBook, selection: Selection = ALL) -> list[UsageRecord]:
    """Writes what differs, as the command does; the adjustments."""
    found = rerating.rerate(ledger_files(data_dir), book, selection)
    made = [rerating.adjustment(each, now_us=NOON + DAY, period="2026-11-22") for each in found if each.difference]
    adjustments.write_batches_alone(data_dir, [made] if made else [])
    return made


def total(data_dir: Path) -> int:
    rows = reports.report(ledger_files(data_dir), [])
    return rows[0].cost_usd if rows else 0


def test_at_the_price_it_was_written_with_nothing_differs(tmp_path: Path) -> None:
    write(tmp_path, [sample("a"), sample("b")])
    assert rerate(tmp_path, BOOK) == []


def test_what_differs_is_an_adjustment_of_the_record_in_todays_bill(tmp_path: Path) -> None:
    write(tmp_path, [sample("a")])
    (made,) = rerate(tmp_path, priced("gemini-2.5-flash-image", output_image="29.123456789"))
    becomes = divide_half_even(7 * 300_000_000 + 1120 * 29_123_456_789)
    assert made.cost_usd == becomes - 33_602_100
    assert (made.kind, made.operation, made.caused_by, made.record_id) == (
        "adjustment",
        "adjustment",
        "a",
        "adj_rerate-a-1",
    )
    assert (made.project, made.key_id, made.model, made.period) == (
        "acme",
        "k1",
        "gemini-2.5-flash-image",
        "2026-11-22",
    )
    assert made.hint == f"priced anew: 0.0336021 USD → {to_usd(becomes)} USD, by configuration"
    assert total(tmp_path) == becomes
    record, adjustment = reports.export(ledger_files(tmp_path))
    assert record == sample("a")
    assert adjustment == made


def test_twice_writes_nothing_more_and_back_again_is_a_second_adjustment(tmp_path: Path) -> None:
    write(tmp_path, [sample("a"), sample("ab")])
    dearer = priced("*", output_image="40")
    assert len(rerate(tmp_path, dearer)) == 2
    assert rerate(tmp_path, dearer) == []
    assert [made.record_id for made in rerate(tmp_path, BOOK)] == ["adj_rerate-a-2", "adj_rerate-ab-2"]
    assert total(tmp_path) == 2 * 33_602_100
    assert len(rerate(tmp_path, dearer)) == 2
    assert rerate(tmp_path, dearer) == []


def test_two_at_once_write_each_difference_once(tmp_path: Path) -> None:
    """Both have read before either writes: their ids are the same."""
    files = write(tmp_path, [sample("a")])
    dearer = priced("*", output_image="40")
    both = [
        [rerating.adjustment(each, now_us=NOON + at, period="p") for each in rerating.rerate(files, dearer, ALL)]
        for at in (1, 2)
    ]
    adjustments.write_batches_alone(tmp_path, both)
    assert total(tmp_path) == 7 * 300 + 1120 * 40_000


def test_each_call_has_the_price_of_its_own_time(tmp_path: Path) -> None:
    day_before = NOON - DAY
    write(tmp_path, [sample("before", started_at=day_before), sample("after")])
    made = rerate(tmp_path, priced("gemini-2.5-flash-image", date(2026, 11, 21), output_image="40"))
    assert [each.caused_by for each in made] == ["after"]


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (ALL, ["a", "b", "c"]),
        (Selection(NOON, NOON + 2), ["a", "b"]),
        (Selection(NOON + 1, NOON + 2), ["b"]),
        (ALL._replace(project="bobs"), ["c"]),
        (ALL._replace(model="gemini-3-*"), ["b"]),
        (ALL._replace(model="gemini-3-pro-image", project="acme"), ["b"]),
        (ALL._replace(model="gemini-3"), []),
    ],
)
def test_what_is_chosen_is_priced_and_nothing_else(tmp_path: Path, selection: Selection, found: list[str]) -> None:
    write(
        tmp_path,
        [
            sample("a"),
            sample("b", started_at=NOON + 1, model="gemini-3-pro-image"),
            sample("c", started_at=NOON + 2, project="bobs"),
        ],
    )
    made = rerate(tmp_path, priced("*", output_image="41"), selection)
    assert [each.caused_by for each in made] == found


def unpriced(record_id: str, **changes: Any) -> UsageRecord:
    """A call as charge.py leaves it where the model has no price."""
    values = {"model": "gemini-5-neon", "model_asked": "gemini-5-neon", "cost_usd": None, "rates": {}}
    return sample(record_id, **values | changes)


def test_a_call_that_had_no_price_gets_one_from_what_google_reported(tmp_path: Path) -> None:
    write(tmp_path, [unpriced("a")])
    (made,) = rerate(tmp_path, priced("gemini-5-neon", input_text="1", output_text="2", output_image="50"))
    assert made.cost_usd == 7 * 1000 + 1120 * 50_000  # A-NO-DETAILS-IS-IMAGE: it brought an image, of unknown size
    assert made.hint is not None
    assert made.hint.startswith("priced anew: no price → ")
    assert rerate(tmp_path, priced("gemini-5-neon", input_text="1", output_text="2", output_image="50")) == []


def test_an_image_of_a_call_that_had_no_price_is_charged_as_one(tmp_path: Path) -> None:
    """When it was weighed, nobody knew that its model makes images."""
    details = '[{"modality":"IMAGE","tokenCount":1120}]'
    usage = f'{{"promptTokenCount":7,"totalTokenCount":1227,"candidatesTokensDetails":{details}}}'
    write(tmp_path, [unpriced("a", usage=usage)])
    (made,) = rerate(tmp_path, priced("gemini-5-neon", input_text="1", output_text="2", output_image="50"))
    assert made.cost_usd == 7 * 1000 + 1120 * 50_000 + 100 * 2000


def test_an_estimate_without_a_price_is_priced_by_what_was_estimated(tmp_path: Path) -> None:
    rates = {"input_text": (100, None), "output_text": (1024, None)}
    write(tmp_path, [unpriced("a", usage=None, images=0, estimated=True, outcome="truncated", rates=rates)])
    (made,) = rerate(tmp_path, priced("gemini-5-neon", input_text="1", output_text="2"))
    assert (made.cost_usd, made.estimated) == (100 * 1000 + 1024 * 2000, True)
    (row,) = reports.report(ledger_files(tmp_path), [])
    assert (row.calls, row.cost_usd, row.estimated_cost_usd) == (1, made.cost_usd, made.cost_usd)


def test_a_rate_that_was_missing_is_charged_when_it_is_there(tmp_path: Path) -> None:
    rates = {"input_text": (7, 300_000_000), "output_audio": (50, None)}
    write(tmp_path, [sample("a", cost_usd=None, rates=rates, priced_as="gemini-2.5-flash-image")])
    (made,) = rerate(tmp_path, priced("gemini-2.5-flash-image", output_audio="20"))
    assert made.cost_usd == 7 * 300 + 50 * 20_000


def test_searches_are_charged_as_the_book_says_now(tmp_path: Path) -> None:
    """A model that charges grounding by the call has one in its rates, however many there were."""
    rates = {"search": (1, 35_000_000_000_000)}
    model = {"model": "gemini-2.5-flash", "model_asked": "gemini-3.8-flash"}
    write(
        tmp_path, [sample("a", searches=3, cost_usd=35_000_000, rates=rates, model_version="gemini-3.8-flash", **model)]
    )
    (made,) = rerate(tmp_path, BOOK)
    assert made.cost_usd == 3 * 14_000_000 - 35_000_000


def test_what_has_no_price_and_what_nobody_knows_is_left_and_told(tmp_path: Path) -> None:
    files = write(tmp_path, [unpriced("a"), unpriced("b", usage=None), sample("c", priced_as="x")])
    still = {each.record.record_id: each for each in rerating.rerate(files, BOOK, ALL)}
    assert still["a"].priced is not None
    assert (still["a"].priced.cost, still["a"].difference) == (None, 0)
    now = rerating.rerate(files, priced("gemini-5-neon", input_text="1", output_text="2"), ALL)
    unknown = {each.record.record_id: each.priced for each in now}
    assert unknown["b"] is None
    assert rerate(tmp_path, BOOK) == []


def test_a_call_that_costs_nothing_by_rule_still_does(tmp_path: Path) -> None:
    write(tmp_path, [sample("a", outcome="upstream_error", cost_usd=0, rates={}), sample("b", kind="storage")])
    assert rerate(tmp_path, priced("*", input_text="900", output_image="900")) == []


def test_an_adjustment_by_hand_stays_as_it_is(tmp_path: Path) -> None:
    """It was made for a reason of its own, and no price takes it back."""
    files = write(tmp_path, [sample("a")])
    hand = adjustments.make(
        files, record_id="adj_1", project="acme", cost_usd="-0.01", why="torn", of="a", now_us=NOON, period="p"
    )
    adjustments.write_alone(tmp_path, hand)
    (made,) = rerate(tmp_path, priced("*", output_image="40"))
    assert made.cost_usd == 1120 * 10_000
    assert rerating.by_hand(files, 0) == {"a": -10_000_000}
    assert rerate(tmp_path, priced("*", output_image="40")) == []


def test_nobody_makes_by_hand_what_rerating_would_take_for_its_own(tmp_path: Path) -> None:
    with pytest.raises(adjustments.AdjustmentRefused, match="given by `weighbridge ledger rerate`"):
        adjustments.make(
            write(tmp_path, [sample("a")]),
            record_id="adj_rerate-a-1",
            project="acme",
            cost_usd="1",
            why="x",
            of="a",
            now_us=NOON,
            period="p",
        )


def test_records_by_their_ids_are_priced_like_those_of_a_period(tmp_path: Path) -> None:
    files = write(tmp_path, [sample("a"), sample("b"), sample("c")])
    dearer = priced("*", output_image="40")
    whole = {each.record.record_id: each for each in rerating.rerate(files, dearer, ALL)}
    assert rerating.rerate_these(files, dearer, ["a", "c", "nothing"]) == {"a": whole["a"], "c": whole["c"]}
    assert rerating.rerate_these(files, dearer, []) == {}


def test_more_than_a_page_is_rerated_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerating, "PAGE", 7)
    write(tmp_path, [sample(f"r{number}") for number in range(30)])
    assert len(rerate(tmp_path, priced("*", output_image="40"))) == 30
    assert rerate(tmp_path, priced("*", output_image="40")) == []


_usd = st.integers(0, 10**12).map(lambda nanos: Decimal(nanos).scaleb(-9))
_quantities = st.dictionaries(
    st.sampled_from(["input_text", "cached_text", "output_text", "output_image"]), st.integers(1, 10**9)
)


@given(_quantities, st.fixed_dictionaries(dict.fromkeys(("input_text", "output_text", "output_image"), _usd)))
def test_with_the_adjustment_a_record_costs_what_it_would_have_cost_at_once(
    weighed: dict[str, int], rates: dict[str, Decimal]
) -> None:
    book = PriceBook.of(None, [SimpleNamespace(model="gemini-2.5-flash-image", from_=None, **rates)])
    then, now = (each.rates_at("gemini-2.5-flash-image", NOON) for each in (BOOK, book))
    assert then is not None
    assert now is not None
    was = then.price(weighed)
    record = sample("a", cost_usd=was.cost, rates=dict(was.rates), priced_as=was.priced_as)
    each = rerating._rerated(record, book, 0, 0)
    assert (was.cost or 0) + each.difference == now.price(weighed).cost


def test_what_the_compatibility_layer_brought_is_weighed_as_it_was(tmp_path: Path) -> None:
    """Of models that had no price: pictures by the piece, tokens by OpenAI's usage."""
    nothing: dict[str, Any] = {"cost_usd": None, "priced_as": None, "model": "new", "model_asked": "new"}
    usage = '{"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 170}'
    painted = {"output_image": (2 * 1120, None)}
    write(
        tmp_path,
        [
            sample("a", operation="openai.images.generations", usage=None, images=2, rates=painted, **nothing),
            sample("b", operation="openai.chat.completions", usage=usage, images=0, rates={}, **nothing),
        ],
    )
    made = rerate(tmp_path, priced("new", input_text="1", output_text="10", output_image="100"))
    assert {one.caused_by: one.cost_usd for one in made} == {"a": 2 * 1120 * 100_000, "b": 100 * 1000 + 70 * 10_000}
