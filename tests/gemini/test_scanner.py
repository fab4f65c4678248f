"""The scanner against a slow oracle on hostile responses, and case by case."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.gemini.reading import Reading
from proxy.gemini.scanner import for_framing
from tests.gemini import oracle
from tests.gemini.hostile import Hostile

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
Oracle = Callable[[bytes, int, int, bool], Reading]


def pieces(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


def read(framing: str, chunks: Iterator[bytes] | list[bytes], complete: bool = True, **options: object) -> Reading:
    scanner = for_framing(framing, **options)  # type: ignore[arg-type]
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner.finish(complete)


@st.composite
def scans(draw: st.DrawFn) -> tuple[Hostile, bool, int]:
    """A maker of responses, whether they bear tools, and the window to look through."""
    tools = draw(st.booleans())
    hostile = Hostile(draw(st.integers(0, 2**32)), draw(st.integers(1, 4)), tools)
    return hostile, tools, draw(st.one_of(st.integers(48, 512), st.just(65_536)))


def check(framing: str, expected: Oracle, text: bytes, tools: bool, window: int, data: st.DataObject) -> None:
    """Whole, and broken off anywhere, in pieces of several sizes."""
    size = data.draw(st.one_of(st.sampled_from([1, 7, 16_384, 65_537]), st.integers(1, 200)), "size")
    for cut in (len(text), data.draw(st.integers(0, len(text)), "cut")):
        told = read(framing, pieces(text[:cut], size), cut == len(text), window=window, grounding=tools)
        assert not told.uncounted or (framing == "single" and cut < len(text))
        told.uncounted = False
        assert told == expected(text, cut, window, tools)


@fuzz
@given(scans(), st.data())
def test_a_single_response_yields_what_the_oracle_finds(scan: tuple[Hostile, bool, int], data: st.DataObject) -> None:
    hostile, tools, window = scan
    check("single", oracle.single, hostile.response(), tools, window, data)


@fuzz
@given(scans(), st.data())
def test_a_stream_of_events_yields_what_the_oracle_finds(scan: tuple[Hostile, bool, int], data: st.DataObject) -> None:
    hostile, tools, window = scan
    check("sse", oracle.sse, hostile.events(), tools, window, data)


@fuzz
@given(scans(), st.data())
def test_an_array_yields_what_the_oracle_finds(scan: tuple[Hostile, bool, int], data: st.DataObject) -> None:
    hostile, tools, window = scan
    check("array", oracle.array, hostile.array(), tools, window, data)
