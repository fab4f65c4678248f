"""An outage begins by what an upstream said, ends by what it does later, and one call at a time finds that out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import structlog
from structlog.testing import capture_logs

from proxy.gemini.exhausted import Exhausted
from proxy.upstreams import health as module
from proxy.upstreams.health import (
    ALL_MODELS,
    COUNTED_S,
    CREDENTIAL_S,
    FAILURES,
    OPEN_S,
    OVERLOADED_S,
    PROBE_S,
    Health,
    Why,
)
from tests.upstreams.steady import MIDNIGHT_S, MODEL, OTHER, Steady, quota


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def health(steady: Steady, monkeypatch: pytest.MonkeyPatch) -> Health:
    """Its log is a fresh one: one that has written keeps how logs were set up then."""
    monkeypatch.setattr(module, "log", structlog.get_logger())
    return steady.health()


def why(health: Health, model: str = MODEL, upstream: str = "a") -> Why | None:
    outage = health.outage(upstream, model)
    return outage.why if outage else None


def until(health: Health, model: str = MODEL, upstream: str = "a") -> float:
    outage = health.outage(upstream, model)
    assert outage is not None
    return outage.until


def fail(health: Health, times: int = FAILURES) -> None:
    for _ in range(times):
        health.failed("a")


def test_a_quota_takes_its_model_out_for_as_long_as_it_said_and_no_other(steady: Steady, health: Health) -> None:
    health.exhausted("a", MODEL, quota(17))
    assert (why(health), until(health)) == (Why.RATE_LIMITED, steady.now + 17)
    assert why(health, OTHER) is None
    assert why(health, upstream="b") is None
    assert health.available("a"), "other models may be asked for"
    assert [model for model, _ in health.outages("a")] == [MODEL]


def test_a_days_quota_is_out_until_midnight_whatever_wait_it_told(steady: Steady, health: Health) -> None:
    health.exhausted("a", MODEL, quota(17, daily=True))
    assert until(health) == steady.now + MIDNIGHT_S


def test_spent_money_takes_all_models_out(steady: Steady, health: Health) -> None:
    health.exhausted("a", MODEL, quota(60, all_models=True))
    assert why(health, OTHER) is Why.RATE_LIMITED
    assert not health.available("a")
    assert steady.told == [("a", False)]


@pytest.mark.parametrize("jitter", [0.0, 0.25, 1.0])
def test_an_overloaded_model_is_out_for_a_moment_by_jitter(steady: Steady, health: Health, jitter: float) -> None:
    steady.jitter = jitter
    health.overloaded("a", MODEL)
    least, most = OVERLOADED_S
    assert (why(health), until(health)) == (Why.OVERLOADED, steady.now + least + jitter * (most - least))
    assert why(health, OTHER) is None


def test_a_bad_credential_takes_all_out_and_is_told_once_however_many_calls_see_it(
    steady: Steady, health: Health
) -> None:
    with capture_logs() as said:
        for _ in range(50):
            health.credential_refused("a")
            steady.now += 1
        assert until(health, OTHER) == 1000 + CREDENTIAL_S
        steady.now = 1000 + CREDENTIAL_S
        health.credential_refused("a")
        health.credential_refused("a")
    loud = [entry for entry in said if entry["event"] == "upstream_credential_refused"]
    assert [entry["log_level"] for entry in loud] == ["error"]


def test_a_circuit_opens_when_connections_fail_in_a_row_and_longer_each_time(steady: Steady, health: Health) -> None:
    fail(health, FAILURES - 1)
    assert why(health) is None
    health.failed("a")
    for seconds in (*OPEN_S, OPEN_S[-1], OPEN_S[-1]):
        assert (why(health), until(health)) == (Why.UNREACHABLE, steady.now + seconds)
        steady.now += seconds - 0.001
        fail(health, 20)  # calls that were under way
        steady.now += 0.001
        assert until(health) == pytest.approx(steady.now), "they change nothing"
        assert health.claim("a", MODEL)
        health.failed("a")


@pytest.mark.parametrize("answered", ["well", "exhausted", "overloaded", "credential_refused"])
def test_whatever_an_upstream_answers_it_can_be_reached(steady: Steady, health: Health, answered: str) -> None:
    """Its failures no longer count, and its circuit closes: even a 429 came over a connection."""

    def answer() -> None:
        if answered == "well":
            health.well("a", MODEL, steady.now)
        elif answered == "exhausted":
            health.exhausted("a", MODEL, quota(3))
        elif answered == "overloaded":
            health.overloaded("a", MODEL)
        else:
            health.credential_refused("a")

    fail(health, FAILURES - 1)
    answer()
    health.failed("a")
    assert why(health) is not Why.UNREACHABLE, "not in a row"
    fail(health, FAILURES)
    steady.now += OPEN_S[0] + CREDENTIAL_S
    answer()
    assert Why.UNREACHABLE not in {outage.why for _, outage in health.outages("a")}
    health.forget("a")
    fail(health)
    assert until(health) == steady.now + OPEN_S[0], "it begins anew"


def test_one_at_a_time_probes_and_the_next_only_when_that_one_takes_too_long(steady: Steady, health: Health) -> None:
    health.exhausted("a", MODEL, quota(3))
    steady.now += 2.999
    assert not health.claim("a", MODEL)
    steady.now += 0.001
    assert [health.claim("a", MODEL) for _ in range(100)] == [True] + [False] * 99
    steady.now += PROBE_S
    assert [health.claim("a", MODEL) for _ in range(3)] == [True, False, False]
    assert all(health.claim("b", MODEL) for _ in range(3)), "nothing is known of that one"


def test_a_probe_of_all_models_is_one_whatever_model_it_asks_for(steady: Steady, health: Health) -> None:
    health.credential_refused("a")
    steady.now += CREDENTIAL_S
    assert [health.claim("a", model) for model in (MODEL, OTHER, "x")] == [True, False, False]


def test_a_probe_that_succeeds_ends_the_outage_and_one_that_fails_renews_it(steady: Steady, health: Health) -> None:
    health.exhausted("a", MODEL, quota(3))
    steady.now += 3
    assert health.claim("a", MODEL)
    health.exhausted("a", MODEL, quota(5))
    assert until(health) == steady.now + 5
    steady.now += 5
    assert health.claim("a", MODEL)
    with capture_logs() as said:
        health.well("a", MODEL, steady.now)
    assert why(health) is None
    assert said == [
        {
            "event": "upstream_back",
            "log_level": "warning",
            "upstream": "a",
            "model": MODEL,
            "why": "rate_limited",
            "seconds": 8,
        }
    ]


def test_an_answer_to_what_was_asked_before_a_quota_was_back_says_nothing_of_it(steady: Steady, health: Health) -> None:
    """Calls that were let in before the 429 go on to be answered."""
    health.exhausted("a", MODEL, quota(3))
    for began in (steady.now - 1, steady.now + 2.9):
        health.well("a", MODEL, began)
        assert why(health) is Why.RATE_LIMITED
    steady.now += 10
    health.well("a", OTHER, steady.now)
    assert why(health) is Why.RATE_LIMITED, "another model's answer says nothing either"


@pytest.mark.parametrize("kind", ["credential", "circuit"])
def test_any_call_begun_since_disproves_a_bad_credential_and_an_open_circuit(
    steady: Steady, health: Health, kind: str
) -> None:
    if kind == "credential":
        health.credential_refused("a")
    else:
        fail(health)
    health.well("a", OTHER, steady.now - 1)
    assert why(health) is not None, "that was asked before"
    health.well("a", OTHER, steady.now + 1)
    assert why(health) is None
    assert steady.told[-1] == ("a", True)


def test_of_a_models_outage_and_one_of_all_the_longer_counts(steady: Steady, health: Health) -> None:
    health.exhausted("a", MODEL, quota(17))
    health.exhausted("a", OTHER, quota(60, all_models=True))
    assert until(health) == steady.now + 60
    health.exhausted("a", MODEL, quota(100))
    assert until(health) == steady.now + 100
    assert until(health, OTHER) == steady.now + 60
    steady.now += 100
    health.well("a", MODEL, steady.now)
    assert list(health.outages("a")) == []


def test_of_two_outages_at_once_the_longer_holds_and_an_overload_hides_no_quota(steady: Steady, health: Health) -> None:
    health.exhausted("a", MODEL, quota(17))
    health.overloaded("a", MODEL)
    assert (why(health), until(health)) == (Why.RATE_LIMITED, steady.now + 17)
    health.exhausted("a", MODEL, quota(5))
    assert until(health) == steady.now + 17
    health.exhausted("a", MODEL, quota(20))
    assert until(health) == steady.now + 20


def test_one_line_when_it_goes_and_one_when_it_is_back(steady: Steady, health: Health) -> None:
    with capture_logs() as said:
        for _ in range(10):
            health.exhausted("a", MODEL, quota(3))
            steady.now += 3
        health.well("a", MODEL, steady.now)
    assert [entry["event"] for entry in said] == ["upstream_out", "upstream_back"]
    assert (said[0]["upstream"], said[0]["model"], said[0]["why"], said[0]["seconds"]) == (
        "a",
        MODEL,
        "rate_limited",
        3,
    )


def test_whoever_selects_is_told_of_each_change(steady: Steady, health: Health) -> None:
    changes: list[Callable[[], object]] = [
        lambda: health.exhausted("a", MODEL, quota(3)),
        lambda: health.overloaded("a", OTHER),
        lambda: health.credential_refused("a"),
        lambda: health.disable(["b"]),
        lambda: health.disable([]),
        lambda: health.forget("a"),
    ]
    for change in changes:
        before = health.generation
        change()
        assert health.generation > before
    before = health.generation
    health.well("a", MODEL, steady.now)
    health.failed("a")
    assert health.generation == before, "and of nothing else: each change costs every route a look"


def test_the_operator_takes_one_out_and_lets_it_in_again(steady: Steady, health: Health) -> None:
    with capture_logs() as said:
        health.disable(["a"])
        health.disable(["a"])
        assert not health.available("a")
        assert health.available("b")
        health.disable([])
    assert [entry["event"] for entry in said] == ["upstream_disabled", "upstream_enabled"]
    assert steady.told == [("a", False), ("a", True)]


def test_what_was_known_of_an_upstream_ends_with_its_settings(health: Health) -> None:
    health.exhausted("a", MODEL, quota(17))
    health.credential_refused("a")
    health.exhausted("b", MODEL, quota(17))
    health.failed("a")
    health.forget("a")
    assert why(health) is None
    assert why(health, upstream="b") is Why.RATE_LIMITED
    fail(health, FAILURES - 1)
    assert why(health) is None


def test_callers_who_name_model_after_model_fill_no_memory(
    steady: Steady, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 100)
    health.credential_refused("a")
    for number in range(1000):
        health.overloaded("a", f"model-{number}")
        steady.now += 0.1
    assert len(list(health.outages("a"))) <= 102
    assert why(health, "model-999") is not None
    assert not health.available("a"), "what is out for all models stays known until it is asked"
    assert math.isclose(health.outage("a", ALL_MODELS).until, 1000 + CREDENTIAL_S)  # type: ignore[union-attr]


def test_nor_do_they_where_each_of_them_is_out_for_the_day(
    steady: Steady, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 100)
    health.credential_refused("a")
    looked = 0
    for number in range(1000):
        before = health._outages
        health.exhausted("a", f"model-{number}", Exhausted(30.0, daily=True))
        looked += health._outages is not before
    assert len(list(health.outages("a"))) <= 102
    assert why(health, "model-999") is not None
    assert not health.available("a")
    assert looked < 30, "all of them are looked through now and then only"


def test_models_that_are_out_are_counted_until_a_while_after_their_time_is_over(steady: Steady, health: Health) -> None:
    """By then a call has found out what is so. A model that nobody asks for again isn't out for ever; what keeps being
    out doesn't flicker."""
    assert health.models_out() == {}
    health.overloaded("a", MODEL)
    health.exhausted("a", OTHER, quota(17))
    health.exhausted("b", MODEL, quota(17))
    health.credential_refused("b")
    assert health.models_out() == {"a": 2, "b": 1}, "that it is out for all is told by another metric"
    health.well("b", MODEL, steady.now + 17)
    assert health.models_out() == {"a": 2}
    steady.now += sum(OVERLOADED_S) / 2 + COUNTED_S
    assert health.models_out() == {"a": 1}
    steady.now += 17
    assert health.models_out() == {}
