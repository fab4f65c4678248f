"""The calls by which assumptions are tried, and the most that each can cost."""

from __future__ import annotations

import json
from types import SimpleNamespace

from proxy.billing.prices import PriceBook
from proxy.cli.doctor.assumptions.calls import TEXT
from tests.cli.doctor.assumptions.contrary import AT, BOOK, CALLS


def test_the_most_is_every_byte_a_token_in_and_the_cap_all_pictures_out() -> None:
    call = CALLS["image-2k"]
    assert call.most(BOOK, AT) == 4096 * 30_000 + len(json.dumps(call.body)) * 1_500


def test_a_search_is_charged_once_and_may_read_much() -> None:
    call = CALLS["search"]
    assert call.most(BOOK, AT) == 35_000_000 + (100_000 + len(json.dumps(call.body))) * 300 + 1024 * 2_500


def test_what_is_only_counted_costs_nothing() -> None:
    assert {call.most(BOOK, AT) for call in CALLS.values() if call.operation == "countTokens"} == {0}


def test_every_call_that_answers_has_a_cap() -> None:
    uncapped = {call.name for call in CALLS.values() if not call.cap}
    assert uncapped == {"count-text", "count-picture", "count-picture-drawn-from", "embed"}


def test_the_operators_own_rates_are_reckoned_with() -> None:
    dear = PriceBook.of(None, [SimpleNamespace(model=TEXT, from_=None, output_text=1000)])
    most = CALLS["text"].most(dear, AT)
    assert most is not None
    assert most > 1024 * 1_000_000


def test_a_call_without_a_rate_has_no_most() -> None:
    assert CALLS["text"]._replace(model="gemini-9-unheard-of").most(BOOK, AT) is None
    assert CALLS["search"]._replace(model=TEXT).most(BOOK, AT) is None, "it may search as often as it likes"
