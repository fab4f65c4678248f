"""A response is read as h11 reads it, or more strictly for a reason that is listed; however its bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.corpus import CASES, Case
from tests.transport.reading import SAME, SOONER, STRICTER, Seen, by_h11, by_us, by_us_bytewise, difference
from tests.transport.strictness import REASONS, reasons

EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))


@EVERY_CASE
def test_each_response_is_taken_or_refused_as_the_corpus_says_in_one_piece_and_byte_by_byte(case: Case) -> None:
    whole, bytewise = by_us(case.wire, case.method), by_us_bytewise(case.wire, case.method)
    body = whole.body if whole.status else None
    assert (whole.ending, body, whole.reusable) == (case.ending, case.body, case.reusable)
    assert bytewise._replace(length=whole.length) == whole
    _compare(case, bytewise)


def _compare(case: Case, ours: Seen) -> None:
    """As h11 reads it, or more strictly for a reason that is listed."""
    theirs = by_h11(case.wire, case.method)
    how = difference(ours, theirs)
    listed = {name for name, reason in REASONS.items() if case.name in reason.cases}
    assert how in ((STRICTER,) if listed else (SAME, SOONER)), (ours, theirs)
    assert listed <= reasons(case.wire)


def test_every_reason_for_taking_less_has_a_case_and_every_listed_case_is_there() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    for reason in REASONS.values():
        assert reason.cases
        assert set(reason.cases) <= set(names)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.data())
def test_each_response_of_the_corpus_reads_the_same_at_any_cuts(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(case.wire)), max_size=6)))
    whole, pieces = by_us(case.wire, case.method), by_us(case.wire, case.method, cuts)
    assert pieces._replace(length=whole.length) == whole
