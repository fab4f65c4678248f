"""Spans of values in JSON texts: each holds its value and no more, and what is no JSON is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gemini import spans

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=8,
)


def written(value: object, indent: int | None, ascii_: bool) -> str:
    """A document with white space around it, as `spans` reads it: a character a byte."""
    return f"\n {json.dumps(value, indent=indent, ensure_ascii=ascii_)}\t".encode().decode("latin-1")


@given(st.dictionaries(st.text(max_size=4), values), st.sampled_from([None, 2]), st.booleans())
def test_each_member_of_an_object_stands_where_it_is_said_to(
    value: dict[str, object], indent: int | None, ascii_: bool
) -> None:
    text = written(value, indent, ascii_)
    found = [spans.read(text, span) for _, span in spans.members(text, spans.begins(text))]
    assert found == list(value.values())
    assert all(text[start] not in " \n" and text[end - 1] not in " ,\n" for _, (start, end) in spans.members(text, 2))


@given(st.lists(values), st.sampled_from([None, 2]), st.booleans())
def test_each_element_of_an_array_stands_where_it_is_said_to(
    value: list[object], indent: int | None, ascii_: bool
) -> None:
    text = written(value, indent, ascii_)
    assert [spans.read(text, span) for span in spans.elements(text, spans.begins(text))] == value


def test_names_are_unescaped() -> None:
    assert spans.fields(r'{"n\u0061me": 1, "b": 2}', 0) == {"name": (14, 15), "b": (22, 23)}


@pytest.mark.parametrize(
    "text",
    ["", " ", "[]", "{", '{"a"', '{"a":', '{"a":1', '{"a" 1}', '{"a":1 "b":2}', '{"a":1,}', "{1:2}", '{"a":x}', "null"],
)
def test_what_is_no_object_is_told(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own sentences, and ours
        list(spans.members(text, spans.begins(text)))


@pytest.mark.parametrize("text", ["", "{}", "[", "[1", "[1,", "[1,]", "[1 2]", "[,]", "1"])
def test_what_is_no_array_is_told(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own sentences, and ours
        list(spans.elements(text, 0))


def test_an_object_with_the_same_name_twice_has_no_fields() -> None:
    with pytest.raises(ValueError, match="same name"):
        spans.fields('{"a": 1, "\\u0061": 2}', 0)
