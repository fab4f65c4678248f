"""The list of assumptions: each is named by its kind, about operations that exist, and shows somewhere on the bill."""

from __future__ import annotations

import re

from proxy.billing.assumptions import ASSUMPTIONS
from proxy.billing.price_book import PER_1000, RATE_NAMES
from proxy.billing.records import COLUMNS
from proxy.gemini.surface import OPERATIONS

OTHER_WORDS = {"usage_missing_total", "long_above", "flex", "input_…", "cached_…"}


def test_names_say_whether_it_is_of_bills_of_estimates_or_of_holds() -> None:
    assert [name for name in ASSUMPTIONS if not re.fullmatch(r"[AEW]-[A-Z0-9]+(-[A-Z0-9]+)*", name)] == []


def test_they_are_about_metered_operations_that_exist() -> None:
    named = {operation for one in ASSUMPTIONS.values() for operation in one.operations}
    assert named <= {operation.name for operation in OPERATIONS if operation.metered}


def test_each_says_where_on_the_bill_it_shows_in_words_that_a_record_has() -> None:
    assert [name for name, one in ASSUMPTIONS.items() if len(one.bill) < 20 or not one.says.endswith(".")] == []
    named = {word for one in ASSUMPTIONS.values() for word in re.findall(r"`([\w…]+)`", one.bill)}
    assert named <= {*COLUMNS, *RATE_NAMES, *PER_1000} | OTHER_WORDS | {"client_gone", "truncated", "upstream_error"}
