"""Of a 429, whatever it is: when to come back, for which models, and how it is told again to the next who asks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import NoUpstream
from proxy.gemini import exhausted, status
from proxy.gemini.exhausted import DEPLETED_S, LONGEST_S, SPENT_S, TOLD_BYTES, TOLD_DEPTH, UNTOLD_S, Exhausted
from tests.proof import at_random

METRIC = "generativelanguage.googleapis.com/generate_content_paid_tier_input_token_count"
QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: "
    f"https://ai.dev/rate-limit. \n* Quota exceeded for metric: {METRIC}, limit: 1000000, model: gemini-3.1-pro\n"
    "Please retry in 45.811974541s."
)
MINUTE = "GenerateContentPaidTierInputTokensPerModelPerMinute"
DAY = "GenerateRequestsPerDayPerProjectPerModel"
TYPE = "type.googleapis.com/google.rpc."


def failure(*quotas: str) -> dict[str, Any]:
    """Google's QuotaFailure."""
    dimensions = {"model": "gemini-3.1-pro", "location": "global"}
    violations = [
        {"quotaMetric": METRIC, "quotaId": quota, "quotaDimensions": dimensions, "quotaValue": "1000000"}
        for quota in quotas
    ]
    return {"@type": f"{TYPE}QuotaFailure", "violations": violations}


def retry(delay: object) -> dict[str, Any]:
    return {"@type": f"{TYPE}RetryInfo", "retryDelay": delay}


KEYS = ["error", "message", "details", "violations", "quotaId", "retryDelay", "code"]
VALUES = ["17s", "PerDay", "-3s", "Please retry in 4s.", "credits are depleted"]
SCALARS = st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(VALUES)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
)
HELP = {"@type": f"{TYPE}Help", "links": [{"description": "Learn more", "url": "https://ai.google.dev"}]}


def error(*details: object, message: object = QUOTA) -> dict[str, Any]:
    said: dict[str, Any] = {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED"}
    return said | ({"details": list(details)} if details else {})


def body(said: object) -> bytes:
    return json.dumps({"error": said}, indent=2).encode()


@pytest.mark.parametrize(
    ("said", "seconds", "daily", "all_models"),
    [
        (error(HELP, failure(MINUTE), retry("45s")), 45.0, False, False),
        (error(HELP, failure(MINUTE), retry("45.811974541s")), 45.811974541, False, False),
        (error(HELP, failure(DAY), retry("33s")), 33.0, True, False),
        (error(HELP, failure(DAY)), UNTOLD_S, True, False),
        (error(failure("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), retry("1s")), 1.0, True, False),
        (error(failure(MINUTE, DAY), retry("9s")), 9.0, True, False),
        (error(failure("GenerateRequestsPerMinutePerProjectPerModel")), UNTOLD_S, False, False),
        (error(message="Resource has been exhausted (e.g. check quota)."), UNTOLD_S, False, False),
        (
            error(
                message="You exceeded your spend-based rate limit. Your spending rate has exceeded the allowed limit "
                "for your account's billing history and tier."
            ),
            SPENT_S,
            False,
            True,
        ),
        (error(message="Your prepayment credits are depleted."), DEPLETED_S, False, True),
    ],
)
def test_what_google_says_tells_how_long_and_for_which_models(
    said: dict[str, Any], seconds: float, daily: bool, all_models: bool
) -> None:
    """Its answers word for word; where the answer would have been an array, the error is that array's element."""
    expected = Exhausted(seconds, daily, all_models, said)
    assert exhausted.read(body(said)) == expected
    assert exhausted.read(b"[" + body(said) + b"]") == expected


@pytest.mark.parametrize(
    "details",
    [
        [retry(delay)]
        for delay in ("-17s", "0s", "abc", "", "17", "s", "1e3s", "17 s", "٣s", "1" * 13 + "s", 17, 17.5, True, None)
    ]
    + [[retry(["17s"])], [retry({"seconds": 17})], ["17s"], [17], [None], [[retry("17s")]]]
    + [[{"@type": f"{TYPE}QuotaFailure", "violations": odd}] for odd in ("x", 7, None, {}, [1, "x", None, {}])]
    + [[{"@type": f"{TYPE}QuotaFailure", "violations": [{"quotaId": odd}]}] for odd in (7, None, ["PerDay"], {})],
)
def test_a_wait_that_cant_be_one_is_taken_for_none(details: list[Any]) -> None:
    said = error(*details, message="x")
    assert exhausted.read(body(said)) == Exhausted(UNTOLD_S, error=said)


@pytest.mark.parametrize("details", ["x", 7, None, {}, {"retryDelay": "17s"}, []])
@pytest.mark.parametrize("message", [None, 7, [], {}, ""])
def test_details_and_messages_of_any_type_are_read(details: object, message: object) -> None:
    said = {"code": 429, "message": message, "details": details}
    assert exhausted.read(body(said)) == Exhausted(UNTOLD_S, error=said)


@pytest.mark.parametrize("delay", ["259200s", "600.1s", "999999999999s"])
def test_a_wait_of_days_is_cut(delay: str) -> None:
    assert exhausted.read(body(error(retry(delay)))).seconds == LONGEST_S


def test_of_several_waits_the_first_that_lies_ahead_counts() -> None:
    assert exhausted.read(body(error(retry("-1s"), retry("3s"), retry("5s")))).seconds == 3.0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\xff\xfe{",
        b"<!doctype html><title>429 Too Many Requests</title>",
        b"null",
        b"17",
        b'"error"',
        b"[]",
        b"[[]]",
        b"[null]",
        b"{}",
        b'{"error": null}',
        b'{"error": "rate limited"}',
        b'{"error": []}',
        body(error())[:-3],
        b'{"error": {"code": ' + b"9" * 5000 + b"}}",
        b"[" * 100_000,
        b'{"error":' * 50_000,
        b"x" * (1 << 20),
    ],
    ids=range(19),
)
def test_what_is_no_error_of_googles_is_waited_for_all_the_same(raw: bytes) -> None:
    assert exhausted.read(raw) == Exhausted(UNTOLD_S)


@pytest.mark.parametrize("depth", [10, 150, 300, 900, 960, 970, 980, 990, 1000, 3000, 60_000])
@pytest.mark.parametrize("member", [b'"message"', b'"details"', b'"more"'])
def test_an_error_of_any_depth_is_read_and_told_again_or_not(member: bytes, depth: int) -> None:
    """Reading, copying and writing may all recurse over it: what is too deep for that is as none of Google's."""
    for opens, closes in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = b'{"error":{%b:%b1%b}}' % (member, opens * depth, closes * depth)
        found = exhausted.read(deep)
        assert found.seconds == UNTOLD_S
        again = found.told_again(3)
        assert (again is not None) == (depth < TOLD_DEPTH)
        refusal = NoUpstream("All are out.", 3000, again)
        assert status.refusal_body(refusal, "single")


@given(ANYTHING)
@at_random(300)
def test_anything_at_all_is_read_in_bounds(parsed: object) -> None:
    found = exhausted.read(json.dumps(parsed).encode())
    assert 0 < found.seconds <= LONGEST_S
    json.dumps(found.told_again(5.0))


@pytest.mark.parametrize("told", ["45.811974541s", "532.7ms", "18h37m48.508s", "2m1.5s"])
def test_told_again_it_says_what_is_left_and_nothing_else_has_changed(told: str) -> None:
    said = error(HELP, failure(MINUTE), retry("45s"), message=QUOTA.replace("45.811974541s", told))
    found = exhausted.read(body(said))
    again = found.told_again(12.3456)
    assert again == error(HELP, failure(MINUTE), retry("12.346s"), message=QUOTA.replace("45.811974541s", "12.346s"))
    assert list(again) == list(said)
    assert found.error == said, "what is remembered stays as it came"


def test_told_again_after_its_time_it_still_says_a_wait() -> None:
    again = exhausted.read(body(error(retry("4s")))).told_again(-2)
    assert again is not None
    assert again["details"][0]["retryDelay"] == "0.001s"


def test_an_error_without_a_wait_is_told_again_as_it_came() -> None:
    said = error(message="Resource has been exhausted (e.g. check quota).")
    assert exhausted.read(body(said)).told_again(7) == said


def test_what_is_large_is_not_kept_to_be_told_again() -> None:
    """It would be copied for each caller who asks meanwhile."""
    large = error(retry("4s"), {"pad": "x" * TOLD_BYTES})
    assert exhausted.read(body(large)) == Exhausted(4.0)
    assert exhausted.read(b'{"error": "none"}').told_again(7) is None
