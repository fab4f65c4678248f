"""Limits as texts: each text is read as one limit or refused with a sentence; changes set them and take them away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.limits import (
    KINDS,
    MAX_LIMITS,
    MAX_USD,
    MAX_VALUE,
    NANO,
    PERIODS,
    Limit,
    change,
    parse,
    parse_all,
)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("rpm=60", Limit("rpm", 60)),
        ("concurrency=0", Limit("concurrency", 0)),
        ("ipm=5,model=*-image*", Limit("ipm", 5, "*-image*")),
        ("tpm=1000000,shadow", Limit("tpm", 1_000_000, shadow=True)),
        ("usd=100,per=month", Limit("usd", 100 * 10**9, per="month")),
        ("usd=0.000000001,per=total,model=a,shadow", Limit("usd", 1, "a", True, "total")),
        ("usd=9000000,per=day", Limit("usd", 9 * 10**15, per="day")),
        ("rpd=1000000000000,model=gemini-3.8-flash,shadow", Limit("rpd", MAX_VALUE, "gemini-3.8-flash", True)),
    ],
)
def test_a_limit_is_read_and_written_as_the_same_text(text: str, limit: Limit) -> None:
    assert parse(text) == limit
    assert str(limit) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" rpm = 60 ", "rpm=60"),
        ("shadow, model=gemini-*, rpm=007", "rpm=7,model=gemini-*,shadow"),
        ("rpm=60,model=*", "rpm=60"),
        ("per=day, usd=2.50", "usd=2.5,per=day"),
        ("usd=010.0,per=total", "usd=10,per=total"),
    ],
)
def test_order_and_spaces_do_not_matter(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


_MODELS = st.sampled_from(["*", "gemini-*", "a.b"])
LIMITS = st.one_of(
    st.builds(Limit, st.sampled_from(KINDS[:-1]), st.integers(0, MAX_VALUE), _MODELS, st.booleans()),
    st.builds(Limit, st.just("usd"), st.integers(0, MAX_USD * NANO), _MODELS, st.booleans(), st.sampled_from(PERIODS)),
)


@given(LIMITS)
def test_every_limit_can_be_written_and_read_again(limit: Limit) -> None:
    assert parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no kind of limit"),
        ("rps=5", r"'rps' is no kind of limit \(rpm, tpm, rpd, ipm, concurrency, usd\); did you mean rpm\?"),
        ("RPM=5", r"did you mean rpm\?"),
        ("concurency=5", r"did you mean concurrency\?"),
        ("modell=x,rpm=5", r"did you mean model\?"),
        ("zzz=5", "write one like rpm=60"),
        ("eur=5,per=day", "for money, usd=100,per=month"),
        ("usd=1,000,per=month", "'000' is too much: a comma ends a value, so write numbers without one, as in 1000"),
        ("usd=2,50,per=month", "without one, as in 1000 or 2.50"),
        ("model=gemini-*", "names no limit"),
        ("shadow", "names no limit"),
        ("usd=100", "say for how long, as in usd=100,per=month"),
        ("per=month", "names no limit"),
        ("rpm=5,per=day", r"only a budget \(usd=\) has per="),
        ("usd=5,per=week", "per=day, per=month or per=total, and not per='week'"),
        ("usd=5,per=day,per=day", "'per=day' is too much"),
        ("usd=-1,per=day", "write USD from 0 to 9000000, with at most nine decimals, as in 100 or 2.50"),
        ("usd=1e3,per=day", "write USD"),
        ("usd=0.0000000001,per=day", "write USD"),
        ("usd=9000000.01,per=day", "write USD"),
        ("usd=$5,per=day", "write USD"),
        ("rpm", "write a whole number from 0 to 1000000000000, as in rpm=60"),
        ("rpm=", "write a whole number"),
        ("rpm=-1", "write a whole number"),
        ("rpm=1.5", "write a whole number"),
        ("rpm=1e3", "write a whole number"),
        ("rpm=1_000", "write a whole number"),
        ("rpm=٣", "write a whole number"),
        ("rpm=1000000000001", "write a whole number"),
        ("rpm=" + "9" * 5000, "write a whole number"),
        ("rpm=5,tpm=5", "'tpm=5' is too much: one limit has one value, so write this one as a limit of its own"),
        ("rpm=5,rpm=5", "'rpm=5' is too much"),
        ("rpm=5,", "'' is too much"),
        ("rpm=5,shadow,shadow", "'shadow' is too much"),
        ("rpm=5,shadow=yes", "'shadow=yes' is too much"),
        ("rpm=5,modell=a", "'modell=a' is too much: after its value, a limit has model=GLOB or shadow"),
        ("rpm=5,model=a,model=b", "'model=b' is too much"),
        ("rpm=5,model=", "no model's id"),
        ("rpm=5,model=models/a", "without models/"),
        ("rpm=5,model=a b", "no model's id"),
        ("rpm=none", "takes a limit away"),
        ("rpm=None", "write a whole number"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_to_write(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse(text)
    assert len(str(caught.value)) < 400


@given(st.text())
def test_a_refusal_can_be_printed_whatever_the_text_was(text: str) -> None:
    with pytest.raises(ValueError, match="rpm") as caught:
        parse(f"rpm=x{text}")
    assert str(caught.value).isprintable()


def test_a_change_sets_one_limit_and_leaves_the_others() -> None:
    limits = parse_all(["rpm=60", "ipm=5,model=*-image*"])
    assert change(limits, ["rpm=90", "tpm=1000"]) == parse_all(["rpm=90", "tpm=1000", "ipm=5,model=*-image*"])
    assert change(limits, []) == limits


def test_none_takes_away_the_limit_of_that_kind_model_and_shadow_alone() -> None:
    limits = parse_all(["rpm=60", "rpm=5,model=a", "rpm=7,shadow"])
    assert change(limits, ["rpm=none"]) == parse_all(["rpm=5,model=a", "rpm=7,shadow"])
    assert change(limits, ["rpm=none,model=a"]) == parse_all(["rpm=60", "rpm=7,shadow"])
    assert change(limits, ["rpm=none,shadow"]) == parse_all(["rpm=60", "rpm=5,model=a"])
    assert change(limits, ["tpm=none"]) == limits


def test_limits_stand_in_one_order_however_they_were_given() -> None:
    """So that equal policies are equal values, and can be one in memory."""
    texts = ["rpm=1", "rpm=1,shadow", "rpm=1,model=a", "tpm=1", "rpd=1", "ipm=1", "concurrency=1"]
    assert parse_all(reversed(texts)) == parse_all(texts)
    assert [str(limit) for limit in parse_all(reversed(texts))] == texts


@pytest.mark.parametrize("texts", [["rpm=1", "rpm=2"], ["rpm=1", "rpm=none"], ["rpm=1", "model=*,rpm=1"]])
def test_a_limit_given_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="given twice"):
        change((), texts)


def test_there_is_an_end_to_the_number_of_limits() -> None:
    texts = [f"rpm=1,model=m{number}" for number in range(1000)]
    assert len(change((), texts[:MAX_LIMITS])) == MAX_LIMITS
    with pytest.raises(ValueError, match="1000 limits are too many"):
        change((), texts)
    with pytest.raises(ValueError, match="101 limits are too many"):
        change(change((), texts[:MAX_LIMITS]), ["tpm=1"])
