"""The usage record's row, its shape outside, money and ids."""

from __future__ import annotations

import random
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.price_book import nano_dollars
from proxy.billing.records import (
    COLUMNS,
    UsageRecord,
    from_row,
    from_usd,
    id_maker,
    to_json,
    to_rfc3339,
    to_row,
    to_usd,
)
from tests.billing.sample import NOON, lease, sample


@pytest.mark.parametrize(
    "record", [sample("full"), lease("lease"), sample("bare", rates=None, attempts=None, usage=None)]
)
def test_a_record_comes_back_from_its_row_as_it_went_in(record: UsageRecord) -> None:
    row = [int(value) if isinstance(value, bool) else value for value in to_row(record)]  # as SQLite gives it back

    assert from_row(COLUMNS, row) == record


def test_a_row_of_another_version_is_read_with_what_it_has() -> None:
    columns, row = ["seq", *COLUMNS[:-1], "of_tomorrow"], [5, *to_row(sample("a", duration_ms=9))[:-1], "x"]

    assert from_row(columns, row) == sample("a", duration_ms=None)


def test_outside_times_money_rates_and_usage_have_the_documented_shape() -> None:
    shown = to_json(sample("a"))

    assert tuple(shown) == COLUMNS
    assert shown["started_at"] == "2026-11-21T12:00:00.000000Z"
    assert shown["cost_usd"] == "0.0336021"
    assert shown["rates"]["output_image"] == {"quantity": 1120, "usd_per_million": "30"}
    assert shown["usage"] == {"promptTokenCount": 7, "candidatesTokenCount": 1120}
    assert shown["prompt_tokens_details"] == {"TEXT": 7}
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_what_is_unknown_is_null_outside() -> None:
    shown = to_json(sample("a", cost_usd=None, usage=None, rates=None, finished_at=None))
    assert [shown[column] for column in ("cost_usd", "usage", "rates", "finished_at")] == [None] * 4


def test_a_quantity_without_a_rate_is_null_outside() -> None:
    shown = to_json(sample("a", cost_usd=None, rates={"input_text": (7, None)}))
    assert shown["rates"] == {"input_text": {"quantity": 7, "usd_per_million": None}}
    columns, row = COLUMNS, to_row(sample("a", rates={"input_text": (7, None)}))
    assert from_row(columns, row).rates == {"input_text": (7, None)}


def test_a_usage_that_is_not_json_is_shown_as_the_text_it_is() -> None:
    assert to_json(sample("a", usage="{broken"))["usage"] == "{broken"


@given(st.integers(0, 10**24))
def test_nano_dollars_survive_the_way_out_and_back(amount: int) -> None:
    assert nano_dollars(to_usd(amount)) == amount


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_dollars_are_read_as_they_are_written(amount: int) -> None:
    assert from_usd(to_usd(amount)) == amount


@pytest.mark.parametrize("text", ["1.0000000000", "1e3", "+1", " 1", "1,5", "", ".5", "\u0661", "1\n"])
def test_dollars_that_are_no_plain_number_of_nine_places_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="plain decimal number"):
        from_usd(text)


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0"), (1, "0.000000001"), (30_000_000_000, "30"), (-1_500_000_000, "-1.5")]
)
def test_money_is_written_without_needless_zeros(nano: int, text: str) -> None:
    assert to_usd(nano) == text


def test_times_keep_their_microseconds() -> None:
    assert to_rfc3339(NOON + 1) == "2026-11-21T12:00:00.000001Z"


@given(st.integers(1, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7_that_holds_its_time_and_randomness(unix_ms: int, noise: bytes) -> None:
    value = uuid.UUID(id_maker(lambda: unix_ms, lambda size: noise * (size // len(noise)))())

    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == unix_ms
    assert (value.int >> 64 & 0xFFF) << 62 | value.int & 2**62 - 1 == int.from_bytes(noise) >> 6


def test_ids_rise_even_where_the_clock_stands_still_or_goes_back() -> None:
    clock = iter([5, 5, 5, 4, 5, 6, 1] * 100)
    make = id_maker(lambda: next(clock), random.Random(1).randbytes)
    ids = [make() for _ in range(700)]

    assert ids == sorted(set(ids))
