"""Selection: by priority, then weight, among those that serve a call and are in; it costs the same for any number."""

from __future__ import annotations

import math
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import NoUpstream, ProxyRefused, Reason
from proxy.upstreams import pool as module
from proxy.upstreams.health import CREDENTIAL_S, FAILURES, PROBE_S
from proxy.upstreams.pool import AWAITED_MS, Pool, Selection
from tests.proof import at_random
from tests.upstreams.steady import MODEL, OTHER, Steady, pool, quota, upstream

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=8)


@pytest.fixture
def steady() -> Steady:
    return Steady()


def weighted(weights: Sequence[int]) -> Pool:
    return pool(Steady(), *(upstream(f"u{at}", weight=weight) for at, weight in enumerate(weights)))


def chosen(pool: Pool, calls: int = 1, model: str = MODEL, project: str = "alice", affinity: str = "") -> list[str]:
    """Who is asked, by calls that begin one after the other."""
    names = []
    for _ in range(calls):
        selection = pool.select(model, project, affinity)
        while selection.probe and not pool.health.claim(selection.upstream.name, model):
            assert selection.next()
        names.append(selection.upstream.name)
    return names


def tried(selection: Selection) -> list[str]:
    """All that one call goes to, where each refuses it."""
    names = [selection.upstream.name]
    while selection.next():
        names.append(selection.upstream.name)
    return names


def refused(pool: Pool, model: str = MODEL, affinity: str = "") -> ProxyRefused:
    with pytest.raises(ProxyRefused) as raised:
        pool.select(model, "alice", affinity)
    return raised.value


@given(WEIGHTS, st.integers(0, 500))
@at_random(100)
def test_in_each_window_of_one_cycle_each_upstream_has_exactly_its_share(weights: list[int], start: int) -> None:
    divisor = math.gcd(*weights)
    cycle = sum(weights) // divisor
    names = chosen(weighted(weights), start + 2 * cycle)
    for at in (start, start + cycle // 2, start + cycle):
        shares = Counter(names[at : at + cycle])
        assert shares == {f"u{number}": weight // divisor for number, weight in enumerate(weights)}


@given(WEIGHTS)
@at_random(50)
def test_turns_are_spread_evenly(weights: list[int]) -> None:
    """At no moment is an upstream as many calls away from its share as there are upstreams."""
    total, had = sum(weights), [0] * len(weights)
    for calls, name in enumerate(chosen(weighted(weights), total), 1):
        had[int(name[1:])] += 1
        assert all(
            abs(count - calls * weight / total) < len(weights) for count, weight in zip(had, weights, strict=True)
        )


def test_five_to_one_is_not_five_in_a_row() -> None:
    """As nginx has it: a heavy upstream doesn't get a burst."""
    assert chosen(weighted([5, 1, 1]), 7) == ["u0", "u0", "u1", "u0", "u2", "u0", "u0"]


def test_shares_follow_weights_over_many_models_and_projects_also_after_one_was_out(steady: Steady) -> None:
    """10,000 calls, 2 %: with a cycle for each route alone, the first of each would get the rest of each."""
    weights = {"a": 50, "b": 30, "c": 20}
    many = pool(steady, *(upstream(name, weight=weight) for name, weight in weights.items()))

    def shares(calls: int) -> Counter[str]:
        return Counter(chosen(many, 1, f"model-{at % 97}", f"project-{at % 89}")[0] for at in range(calls))

    def follow(had: Counter[str], of: dict[str, int]) -> None:
        for name, weight in of.items():
            assert had[name] / had.total() == pytest.approx(weight / sum(of.values()), rel=0.02)

    follow(shares(10_000), weights)
    many.health.credential_refused("b")
    had = shares(10_000)
    assert had["b"] == 0
    follow(had, {"a": 50, "c": 20})
    steady.now += CREDENTIAL_S
    assert shares(500)["b"] == 1, "the probe"
    many.health.well("b", MODEL, steady.now)
    follow(shares(10_000), weights)


def test_the_next_priority_serves_only_while_the_first_is_out_and_not_longer(steady: Steady) -> None:
    tiers = pool(steady, upstream("fallback", priority=9), upstream("a"), upstream("b"))
    assert Counter(chosen(tiers, 10)) == {"a": 5, "b": 5}
    tiers.health.exhausted("a", MODEL, quota(17))
    assert set(chosen(tiers, 10)) == {"b"}
    tiers.health.exhausted("b", MODEL, quota(20))
    assert set(chosen(tiers, 10)) == {"fallback"}
    assert Counter(chosen(tiers, 10, OTHER)) == {"a": 5, "b": 5}
    steady.now += 17
    assert chosen(tiers, 3) == ["a", "fallback", "fallback"], "one probe"
    tiers.health.well("a", MODEL, steady.now)
    assert set(chosen(tiers, 10)) == {"a"}


def test_a_fallback_is_not_probed_while_the_first_can_serve(steady: Steady) -> None:
    tiers = pool(steady, upstream("a"), upstream("fallback", priority=1))
    tiers.health.exhausted("fallback", MODEL, quota(3))
    steady.now += 3
    assert set(chosen(tiers, 5)) == {"a"}
    assert tried(tiers.select(MODEL, "alice")) == ["a", "fallback"], "but where the first has refused"


def test_globs_say_whose_calls_of_which_models_an_upstream_serves(steady: Steady) -> None:
    some = pool(
        steady,
        upstream("images", models=("gemini-*-image",)),
        upstream("alices", projects=("alice", "team-*")),
        upstream("pro", models=("gemini-3.1-PRO",), projects=("bob",)),
    )
    assert set(chosen(some, 8, "gemini-3-image", "bob")) == {"images"}
    assert set(chosen(some, 8, "gemini-3-image", "alice")) == {"images", "alices"}
    assert set(chosen(some, 8, MODEL, "team-x")) == {"alices"}
    assert set(chosen(some, 8, OTHER, "bob")) == {"pro"}, "models know no capitals"
    assert set(chosen(some, 8, "", "bob")) == {"images", "pro"}, "what names no model is served by all"
    with pytest.raises(NoUpstream, match=rf"serves the model {MODEL} for your project") as none:
        some.select(MODEL, "bob")
    assert (none.value.http, none.value.wait_ms, none.value.told) == (503, None, None)
    assert (some.serves(MODEL, "bob"), some.serves(MODEL, "alice")) == (False, True)


def test_a_call_goes_to_each_upstream_once(steady: Steady) -> None:
    three = pool(steady, upstream("a", weight=9), upstream("b"), upstream("c", priority=1))
    for _ in range(20):
        names = tried(three.select(MODEL, "alice"))
        assert sorted(names) == ["a", "b", "c"]
        assert names[-1] == "c"


def test_the_others_get_the_calls_that_one_refused_by_their_weights(steady: Steady) -> None:
    """Not all of them the one that comes next to it."""
    many = pool(steady, upstream("a"), *(upstream(name) for name in "bcd"))
    seconds = Counter()  # type: Counter[str]
    for _ in range(120):
        selection = many.select(MODEL, "alice")
        if selection.upstream.name == "a":
            assert selection.next()
            seconds[selection.upstream.name] += 1
    assert seconds == {"b": 10, "c": 10, "d": 10}


def test_what_goes_out_in_the_middle_of_a_call_is_not_asked_by_it(steady: Steady) -> None:
    three = pool(steady, upstream("a"), upstream("b"), upstream("c"))
    selection = three.select(MODEL, "alice")
    three.health.exhausted("b", MODEL, quota(17))
    assert tried(selection) == ["a", "c"]


def test_one_that_is_alone_is_asked_whatever_is_known_of_it(steady: Steady) -> None:
    """Google's own answer is worth more than what we make of an earlier one."""
    alone = pool(steady, upstream("a"), upstream("other", models=("x",)))
    alone.health.exhausted("a", MODEL, quota(17))
    alone.health.credential_refused("a")
    assert tried(alone.select(MODEL, "alice")) == ["a"]
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.exhausted("a", MODEL, quota(17))
    pair.health.disable(["b"])
    assert tried(pair.select(MODEL, "alice")) == ["a"], "the only one that the operator left in"


def test_what_exists_under_one_upstream_only_goes_there_or_nowhere(steady: Steady) -> None:
    three = pool(steady, upstream("a", priority=5), upstream("b"), upstream("c"))
    assert set(chosen(three, 5, affinity="a")) == {"a"}
    three.health.exhausted("a", MODEL, quota(17))
    selection = three.select(MODEL, "alice", "a")
    assert tried(selection) == ["a"], "also while it cools down, and nowhere else"
    three.health.disable(["a"])
    assert refused(three, affinity="a").reason is Reason.NO_UPSTREAM
    assert refused(three, affinity="gone").reason is Reason.NO_UPSTREAM
    assert set(chosen(three, 5)) == {"b", "c"}


def test_where_all_have_used_up_their_quota_the_shortest_wait_is_told_again(steady: Steady) -> None:
    three = pool(steady, *(upstream(name) for name in "abc"))
    for name, seconds in {"a": 17, "b": 9, "c": 30}.items():
        three.health.exhausted(name, MODEL, quota(seconds, name))
    steady.now += 4
    none = refused(three)
    assert isinstance(none, NoUpstream)
    assert (none.reason, none.http, none.wait_ms) == (Reason.NO_UPSTREAM, 429, 5000)
    assert none.told is not None
    assert none.told["message"] == "No quota at b."
    assert none.told["details"][0]["retryDelay"] == "5.000s"
    three.health.disable(["b"])
    none = refused(three)
    assert isinstance(none, NoUpstream)
    assert none.told is not None
    assert none.told["message"] == "No quota at a.", "whoever was taken out has no say"


def test_where_they_are_out_for_different_reasons_no_upstream_is_said(steady: Steady) -> None:
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.exhausted("a", MODEL, quota(17))
    pair.health.overloaded("b", MODEL)
    none = refused(pair)
    assert isinstance(none, NoUpstream)
    assert (none.http, none.told, none.wait_ms) == (503, None, 2000)


def test_one_that_is_disabled_does_not_come_back_by_itself_so_nobody_is_told_to_wait_for_it(steady: Steady) -> None:
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.credential_refused("a")
    pair.health.overloaded("b", MODEL)
    pair.health.disable(["a", "b"])
    none = refused(pair)
    assert isinstance(none, NoUpstream)
    assert (none.reason, none.http, none.wait_ms) == (Reason.NO_UPSTREAM, 503, None)
    assert "disabled" in str(none)
    pair.health.disable(["a"])
    assert chosen(pair) == ["b"], "one that is alone is asked"


def test_where_every_credential_is_bad_that_is_said(steady: Steady) -> None:
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.credential_refused("a")
    pair.health.credential_refused("b")
    assert refused(pair).reason is Reason.UPSTREAM_CREDENTIAL_REFUSED
    steady.now += CREDENTIAL_S
    assert set(chosen(pair, 2)) == {"a", "b"}
    assert refused(pair).reason is Reason.UPSTREAM_CREDENTIAL_REFUSED, "both are being asked"


def test_while_the_only_hope_is_being_probed_callers_are_told_to_wait_for_that(steady: Steady) -> None:
    """Not for a millisecond: they would all ask again at once, and be refused again."""
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.exhausted("a", MODEL, quota(3))
    pair.health.exhausted("b", MODEL, quota(17))
    steady.now += 3
    assert chosen(pair) == ["a"]
    none = refused(pair)
    assert isinstance(none, NoUpstream)
    assert none.wait_ms == AWAITED_MS
    assert none.told is not None
    assert none.told["details"][0]["retryDelay"] == "1.000s"


def test_where_all_were_overloaded_for_a_moment_nobody_waits_for_a_probe_when_that_is_over(steady: Steady) -> None:
    """A picture takes a minute: so long after one 503 of each, all calls but one in five seconds were refused."""
    three = pool(steady, upstream("a"), upstream("b"), upstream("c", priority=1))
    for _ in range(FAILURES):
        three.health.failed("c")
    three.health.overloaded("a", MODEL)
    three.health.overloaded("b", MODEL)
    assert isinstance(refused(three), NoUpstream)
    steady.now += 2
    assert [three.select(MODEL, "alice").probe for _ in range(10)] == [False] * 10
    assert set(chosen(three, 10)) == {"a", "b"}
    three.health.overloaded("a", MODEL)
    assert set(chosen(three, 10)) == {"b"}
    three.health.well("b", MODEL, steady.now)
    steady.now += 2
    assert sum(three.select(MODEL, "alice").probe for _ in range(10)), "there is another one again"


def test_a_returning_upstream_is_probed_by_one_call_and_then_has_its_share_again(steady: Steady) -> None:
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.exhausted("a", MODEL, quota(17))
    steady.now += 16.99
    assert set(chosen(pair, 100)) == {"b"}
    steady.now += 0.01
    probe = pair.select(MODEL, "alice")
    assert (probe.upstream.name, probe.probe) == ("a", True)
    assert pair.health.claim("a", MODEL)
    assert set(chosen(pair, 100)) == {"b"}
    pair.health.well("a", MODEL, steady.now)
    assert Counter(chosen(pair, 100)) == {"a": 50, "b": 50}


def test_a_probe_that_is_not_made_is_the_next_callers(steady: Steady) -> None:
    """A project that is over its own limit must not keep an upstream out by asking for it again and again."""
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.exhausted("a", MODEL, quota(17))
    steady.now += 17
    assert {pair.select(MODEL, "over-its-limit").upstream.name for _ in range(10)} == {"a"}
    probe = pair.select(MODEL, "alice")
    assert (probe.upstream.name, probe.probe) == ("a", True)
    assert pair.health.claim("a", MODEL)
    assert chosen(pair, 3) == ["b"] * 3, "but one that is under way is waited for"


def test_no_room_in_our_own_quota_is_a_wait(steady: Steady) -> None:
    pair = pool(steady, upstream("a"), upstream("b"))
    selection = pair.select(MODEL, "alice")
    selection.full(700)
    assert selection.next()
    selection.full(900)
    assert not selection.next()
    none = selection.none_left()
    assert isinstance(none, NoUpstream)
    assert (none.http, none.wait_ms, none.told) == (503, 700, None)


def test_changes_are_seen_by_every_route(steady: Steady) -> None:
    pair = pool(steady, upstream("a"), upstream("b"))
    models = [f"model-{at}" for at in range(50)]
    for model in models:
        chosen(pair, 1, model)
    pair.health.credential_refused("a")
    assert {name for model in models for name in chosen(pair, 2, model)} == {"b"}


def test_models_that_callers_make_up_fill_no_memory(steady: Steady, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 100)
    pair = pool(steady, upstream("a"), upstream("b"))
    for at in range(1000):
        chosen(pair, 1, f"model-{at}")
    assert len(pair._routes) <= 100


def sized(number: int, *, out: bool = False) -> Pool:
    """So many upstreams; with `out`, one more that is out, so that the clock is looked at."""
    steady = Steady()
    many = pool(steady, *(upstream(f"u{at}") for at in range(number)), *([upstream("out")] if out else []))
    if out:
        many.health.credential_refused("out")
    chosen(many, 3 * number)
    return many


def steps(act: Callable[[], Any]) -> int:
    """Lines of Python that run, and functions that are called, C's among them."""
    count = 0

    def line(*_: object) -> Any:
        nonlocal count
        count += 1
        return line

    def call(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.settrace(line)
    sys.setprofile(call)
    try:
        act()
    finally:
        sys.setprofile(None)
        sys.settrace(None)
    return count


def allocated(act: Callable[[], Any]) -> int:
    """Bytes that are held at most while it runs."""
    tracemalloc.start()
    try:
        act()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        act()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("out", [False, True])
def test_to_select_takes_as_many_steps_and_as_much_memory_however_many_upstreams_there_are(out: bool) -> None:
    one, ten, hundred = (sized(number, out=out) for number in (2, 10, 100))
    for measure in (steps, allocated):
        for pools in ((one, ten), (one, hundred)):
            few, many = (measure(lambda pool=pool: pool.select(MODEL, "alice")) for pool in pools)  # type: ignore[misc]
            assert many <= few, measure.__name__


def test_a_claim_that_nobody_answers_for_runs_out(steady: Steady) -> None:
    pair = pool(steady, upstream("a"), upstream("b"))
    pair.health.exhausted("a", MODEL, quota(17))
    steady.now += 17
    assert chosen(pair, 3) == ["a", "b", "b"]
    steady.now += PROBE_S
    assert chosen(pair, 3) == ["a", "b", "b"]
