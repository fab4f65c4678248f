"""Every assumption has a verdict: by a trial, or that only the bill tells."""

from __future__ import annotations

import json

from proxy.billing.assumptions import ASSUMPTIONS
from proxy.cli.doctor.assumptions.answers import read
from proxy.cli.doctor.assumptions.trials import TRIALS, tell
from proxy.cli.doctor.assumptions.verdicts import Answers
from tests.cli.doctor.assumptions.contrary import AT, BOOK, CALLS, answered, said, searched, usage


def test_trials_are_of_assumptions_that_exist() -> None:
    assert TRIALS.keys() <= ASSUMPTIONS.keys()


def test_without_answers_nothing_is_told_and_the_bill_is_named_as_what_tells() -> None:
    told = tell(Answers({}, BOOK, AT))
    assert [one.name for one in told] == list(ASSUMPTIONS)
    assert {one.verdict for one in told if one.name in TRIALS} == {"unknown"}
    assert {one.verdict for one in told if one.name not in TRIALS} == {"untried"}
    assert all("usage reconcile" in one.do for one in told)


def test_what_held_needs_nothing_done() -> None:
    (one,) = (one for one in tell(answered(text=said(usage()))) if one.name == "A-OUTPUT-IS-REST")
    assert (one.verdict, one.do, one.says) == ("held", "", ASSUMPTIONS["A-OUTPUT-IS-REST"].says)


def test_an_answer_that_is_not_of_googles_types_tells_nothing_and_ends_nothing() -> None:
    event = searched("one")
    event["candidates"][0]["groundingMetadata"]["imageSearchQueries"] = None
    event["candidates"].append({"content": {"parts": [{"text": "x", "thought": None}]}, "index": 1})
    odd = searched()
    odd["candidates"][0]["groundingMetadata"]["webSearchQueries"] = ["a"]
    odd["candidates"][0]["index"] = []
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in (event, odd))
    answer = read(CALLS["search"], body, {}, BOOK, AT)
    told = {one.name: one for one in tell(Answers({"search": answer}, BOOK, AT))}
    assert told["A-SEARCHES-REPEAT"].verdict == "unknown"
    assert "can't be read" in told["A-SEARCHES-REPEAT"].seen
    assert told["A-OUTPUT-IS-REST"].verdict == "held"
