"""News of outages as entries of a stream: what is told is read, what isn't understood is passed by."""

from __future__ import annotations

import json

import pytest

from proxy.gemini.exhausted import Exhausted
from proxy.upstreams import news as told_news
from proxy.upstreams.health import News, Why
from proxy.upstreams.news import Entry, Key

ERROR = {"code": 429, "message": "Grüße", "details": [{"retryDelay": "17s"}]}
SAID = Exhausted(17.0, error=ERROR)
OUT = News("a", "gemini-3.8-flash", Why.RATE_LIMITED, 17.0, SAID)
BACK = News("a", "gemini-3.8-flash", Why.RATE_LIMITED, None)


def as_stored(news: News, **changed: str | None) -> list[bytes]:
    """An entry's fields as Redis gives them; None leaves one out."""
    fields = told_news.fields(news, "1f2e3d4c", "worker", 3)
    told = dict(zip(fields[::2], fields[1::2], strict=True)) | changed
    parts = (part for name, value in told.items() if value is not None for part in (name, value))
    return [part if isinstance(part, bytes) else str(part).encode() for part in parts]


@pytest.mark.parametrize(
    "news",
    [
        OUT,
        BACK,
        News("a", "*", Why.CREDENTIAL_REFUSED, 60.0),
        News("a", "", Why.OVERLOADED, 1.234),
        News("ü", "\ud800 model", Why.RATE_LIMITED, 30.0, Exhausted(30.0)),
    ],
)
def test_what_is_told_is_read(news: News) -> None:
    assert told_news.read(b"1000-0", as_stored(news)) == Entry("1000-0", "worker", 3, "1f2e3d4c", news)


def test_an_error_that_is_long_is_left_out() -> None:
    """Then there is no answer of Google's to give again; the outage is told all the same."""
    long = OUT._replace(exhausted=SAID._replace(error={"message": "m" * told_news.LONGEST_ERROR}))
    entry = told_news.read(b"1000-0", as_stored(long))
    assert entry
    assert entry.news == OUT._replace(exhausted=Exhausted(17.0))


@pytest.mark.parametrize("error", ["x" * told_news.LONGEST_ERROR, {"a": json.loads("[" * 300 + "]" * 300)}])
def test_an_error_that_no_server_of_ours_tells_is_left_out(error: object) -> None:
    """It would be written anew for every caller, and writing recurses."""
    entry = told_news.read(b"1000-0", as_stored(OUT, error=json.dumps({"message": error})))
    assert entry
    assert entry.news == OUT._replace(exhausted=Exhausted(17.0))


def test_no_outage_is_longer_than_a_day() -> None:
    """Nor shorter than nothing."""
    read = [told_news.read(b"1-0", as_stored(OUT, ms=ms)) for ms in ("9" * 4000, "-5")]
    assert [entry and entry.news.seconds for entry in read] == [told_news.LONGEST_S, 0.0]


@pytest.mark.parametrize(
    "changed",
    [
        {"ms": "soon"},
        {"ms": None},
        {"why": "tired"},
        {"why": "unreachable"},
        {"state": None},
        {"number": "x"},
        {"worker": None},
        {"error": "{"},
        {"error": "[" * 100_000},
    ],
)
def test_what_this_version_does_not_understand_is_passed_by(changed: dict[str, str | None]) -> None:
    assert told_news.read(b"1000-0", as_stored(OUT, **changed)) is None


@pytest.mark.parametrize("fields", [[], [b"upstream"], [b"\xff", b"\xff"]])
def test_what_another_program_wrote_is_passed_by(fields: list[bytes]) -> None:
    assert told_news.read(b"1000-0", fields) is None


def entry(at_ms: int, news: News) -> Entry:
    return Entry(f"{at_ms}-0", "worker", 0, "1f2e3d4c", news)


def test_of_an_outage_what_is_left_counts() -> None:
    """By Redis's clock, also where that was set back since."""
    key = OUT.upstream, "1f2e3d4c", OUT.model
    left = [told_news.fold([entry(100_000, OUT)], now_ms)[key].seconds for now_ms in (100_000, 110_000, 130_000, 0)]
    assert left == [17.0, 7.0, -13.0, 17.0]


def test_an_outage_that_was_over_long_ago_is_passed_by() -> None:
    """One that was over just now isn't: nobody may have found out yet whether the upstream is back."""
    assert told_news.fold([entry(100_000, OUT)], 178_000) == {}


def test_what_was_told_last_counts_and_of_two_ends_the_later() -> None:
    day, minute, other = OUT._replace(seconds=3600.0), OUT._replace(seconds=17.0), OUT._replace(model="other")
    key = OUT.upstream, "1f2e3d4c", OUT.model

    def told(*news: News) -> dict[Key, float | None]:
        return {key: one.seconds for key, one in told_news.fold([entry(0, one) for one in news], 0).items()}

    assert told(day, minute) == told(minute, day) == told(BACK, minute, day) == {key: 3600.0}
    assert told(day, BACK) == {key: None}
    assert told(day, BACK, minute) == {key: 17.0}
    assert told(day, BACK, other) == {key: None, ("a", "1f2e3d4c", "other"): 17.0}
