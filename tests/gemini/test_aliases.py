"""Aliases: which model stands in for which, and that nothing but its name is spliced."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CallerErred
from proxy.gemini import bodies, calls, edits
from proxy.gemini.aliases import Aliases
from proxy.gemini.hints import hint

ASKED, USED = "gemini-2.5-flash-image", "gemini-nano-banana-2.1"


def aliases(*pairs: tuple[str, str]) -> Aliases:
    def used(model: str) -> str:
        return next((use for match, use in pairs if fnmatchcase(model, match)), model)

    return Aliases(used, [match for match, _ in pairs if "*" not in match])


ONE = aliases((ASKED, USED), ("gemini-3.1-*", "gemini-4-carbon"))


def test_an_alias_behind_a_glob_is_offered_as_what_callers_really_get() -> None:
    assert aliases(("gemini-*", "b"), ("gemini-1", "c")).offered == (("gemini-1", "b"),)


def test_a_name_beyond_all_models_is_looked_up_in_nothing() -> None:
    """Look-ups are kept; one of these would fill the memory."""
    long = "gemini-3.1-" + "x" * 1000
    assert ONE.used(long) == long
    assert ONE._used.cache_info().currsize <= 1024


def test_what_a_request_line_calls_for_is_told_of_an_alias_too() -> None:
    call = ONE.parse("POST", f"/v1/v1/models/{ASKED}:generateContent".encode(), b"")
    assert call.model == USED
    assert call.hint == hint("version-twice")


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/v1beta/models/{}:generateContent", b"", "/v1beta/models/{}:generateContent"),
        ("/v1/models/{}:streamGenerateContent", b"alt=sse", "/v1/models/{}:streamGenerateContent?alt=sse"),
        ("/models/{}%3AcountTokens", b"prettyPrint=false", "/v1beta/models/{}:countTokens?prettyPrint=false"),
        (
            "//v1beta/v1alpha/models/{}",
            b"quotaUser=/models/" + ASKED.encode(),
            "/v1alpha/models/{}?quotaUser=/models/" + ASKED,
        ),
    ],
)
def test_only_the_models_segment_of_a_path_is_spliced(path: str, query: bytes, target: str) -> None:
    method = "POST" if ":" in target else "GET"
    call = ONE.parse(method, path.format(ASKED).encode(), query)
    assert (call.model_asked, call.model, call.target) == (ASKED, USED, target.format(USED).encode())
    plain = calls.parse(method, path.format(ASKED).encode(), query)
    assert (call.operation, call.framing) == (plain.operation, plain.framing)
    assert (plain.model, plain.model_asked, plain.target) == (ASKED, ASKED, target.format(ASKED).encode())


def test_a_call_of_no_alias_is_the_very_call_that_it_is_without_any() -> None:
    for method, path in (("POST", b"/v1beta/models/gemini-3.8-flash:countTokens"), ("GET", b"/v1beta/models")):
        assert aliases((ASKED, USED), ("*.1*", USED)).parse(method, path, b"") is calls.parse(method, path, b"")
    assert aliases(("*", USED)).parse("GET", b"/v1beta/models", b"").model == "", "a list is no call of a model"


def spliced(body: bytes, operation: str, model: str = ASKED, by: Aliases = ONE) -> bytes:
    facts = bodies.skim(body).read(operation, model, frozenset(), aliases=by)
    becomes = edits.spliced(body, facts.splices)
    assert len(becomes) == len(body) + facts.growth
    return becomes


PLAIN = b'"models/%b"' % ASKED.encode(), b'"models/%b"' % USED.encode()


@pytest.mark.parametrize(
    ("named", "becomes"),
    [
        PLAIN,
        (b'"%b"' % ASKED.encode(), b'"%b"' % USED.encode()),
        (rb'"models\/gemini-2.5-flash-image"', rb'"models\/gemini-nano-banana-2.1"'),
        (rb'"m\u006fdels\u002fgem\u0069ni-2.5-flash-image"', rb'"m\u006fdels\u002fgemini-nano-banana-2.1"'),
        (rb'"gemini-2\u002E5-flash-image"', rb'"gemini-nano-banana-2.1"'),
        (b'"models/%b"' % USED.encode(), b'"models/%b"' % USED.encode()),
        (b'""', b'""'),
        (b"null", b"null"),
    ],
)
@pytest.mark.parametrize(
    ("operation", "around"),
    [
        ("embedContent", b'{"content":{"parts":[{"text":"%b"}]}, "model" : MODEL\n}'),
        ("generateContent", b'\n{ "mod\\u0065l":MODEL,"contents":["gemini-2.5-flash-image"]} '),
        ("batchEmbedContents", b'{"requests":[{"model": MODEL,"content":1},{"content":"models/x"},{"model":MODEL}]}'),
        ("batchEmbedContents", b'{"requests":{"model": MODEL}, "model":MODEL}'),
        ("countTokens", b'{"generateContentRequest":{"contents":[],"model":MODEL,"tools":[{"model":"b"}]}}'),
        ("countTokens", b'{"generate_content_request":{"model":MODEL}, "x":"\xc3\xa4\xf0\x9f\x98\x80","model":MODEL}'),
    ],
)
def test_a_bodys_name_of_its_model_is_spliced_and_no_other_byte(
    named: bytes, becomes: bytes, operation: str, around: bytes
) -> None:
    body = around.replace(b"MODEL", named)
    assert spliced(body, operation) == around.replace(b"MODEL", becomes)


@pytest.mark.parametrize("other", ["models/gemini-3.1-pro", "gemini-3.8-flash", "models/models/" + ASKED, "x" * 200])
def test_a_body_that_asks_for_another_model_than_the_path_is_refused_by_the_name_asked_for(other: str) -> None:
    body = json.dumps({"model": other}).encode()
    with pytest.raises(CallerErred, match=f"the path, which says {ASKED}"):
        spliced(body, "embedContent")


@pytest.mark.parametrize("value", [5, ["models/" + ASKED], {"model": ASKED}, True])
def test_a_model_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(CallerErred, match="another model"):
        spliced(json.dumps({"model": value}).encode(), "embedContent")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"models/gemini-2.5-flash-image","model":"models/gemini-2.5-flash-image"}',
        b'{"model":"models/gemini-2.5-flash-image",}',
        b'{"model":"models/gemini-2.5-flash-image"',
        b"{'model':'models/gemini-2.5-flash-image'}",
    ],
)
def test_what_google_might_read_otherwise_is_refused_and_never_spliced(body: bytes) -> None:
    with pytest.raises(CallerErred, match="strict JSON"):
        spliced(body, "embedContent")


def test_what_two_names_of_one_model_may_do() -> None:
    """Path and body may call it differently where callers get the same by both names."""
    asks = b'{"model":"models/gemini-3.1-flash"}'
    assert spliced(asks, "embedContent", "gemini-4-carbon") == b'{"model":"models/gemini-4-carbon"}'
    assert spliced(asks, "embedContent", "gemini-3.1-pro") == b'{"model":"models/gemini-4-carbon"}'
    chain = aliases(("a", "b"), ("b", "c"))
    assert spliced(b'{"model":"b"}', "embedContent", "b", chain) == b'{"model":"c"}'
    with pytest.raises(CallerErred, match="another model"):
        spliced(b'{"model":"b"}', "embedContent", "a", chain)


def test_without_aliases_a_body_is_left_alone_and_an_alias_in_it_refused() -> None:
    body = b'{"model":"models/%b"}' % ASKED.encode()
    assert bodies.look(body, "embedContent", ASKED, frozenset()).splices == ()
    with pytest.raises(CallerErred, match="another model"):
        bodies.look(body, "embedContent", USED, frozenset())


texts = st.text(max_size=30) | st.sampled_from([ASKED, f"models/{ASKED}", '"model":', "data"])
trees = st.recursive(
    st.none() | st.integers() | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("abcx"), children, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([ASKED, f"models/{ASKED}", USED, f"models/{USED}", "", None])
pictures = st.integers(1024, 5000).map(lambda size: {"inlineData": {"mimeType": "image/png", "data": "QUJD" * size}})


@given(
    st.lists(st.tuples(names, trees | pictures), max_size=4),
    names,
    st.sampled_from(["model", "mo_del"]),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_whatever_else_is_in_a_body_crosses_byte_for_byte(
    requests: list[tuple[Any, Any]], top: Any, key: str, slashes: bool, indent: int | None, ascii_: bool
) -> None:
    """What goes up is the document with its names replaced, written by the same hand: pictures, escapes, spacing."""

    def written(replaced: bool) -> bytes:
        def name(value: Any) -> Any:
            return value.replace(ASKED, USED) if replaced and value else value

        document = {"requests": [{"content": each, key: name(named)} for named, each in requests], "model": name(top)}
        text = json.dumps(document, indent=indent, ensure_ascii=ascii_)
        return (text.replace("/", "\\/") if slashes else text).encode("utf-8", "replace")

    assert spliced(written(False), "batchEmbedContents") == written(True)
