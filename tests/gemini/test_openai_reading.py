"""What the compatibility layer's responses say is found, whole and through windows, wherever they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gemini.openai_reading import Answer, Pictures, document_of
from proxy.gemini.reading import Reading
from proxy.gemini.scanner import for_framing
from proxy.gemini.windows import Document
from tests.gemini.test_usage_chunks import CHUNK, OF_USAGE, USAGE, WITH_CHOICES


def read(framing: str, text: bytes, kind: type[Document], size: int = 1 << 20, window: int = 65_536) -> Reading:
    scanner = for_framing(framing, window=window, document=kind)
    for start in range(0, len(text), size):
        for _ in scanner.feed(text[start : start + size]):
            pass
    return scanner.finish(True)


hostile = st.text(max_size=30) | st.sampled_from(
    ['"usage":{"prompt_tokens":1}', '\\"usage":{', '{"b64_json":"x"', '"},"model":"m"', "\\", '"finish_reason":"x"']
)


@st.composite
def completions(draw: st.DrawFn) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": {
                "content": draw(hostile) * draw(st.sampled_from([1, 40])),
                "tool_calls": [{"id": draw(hostile), "model": "x"}],
                "usage": {"prompt_tokens": 1},
            },
            "finish_reason": draw(st.sampled_from(["stop", "length"])),
        }
        for index in range(draw(st.integers(1, 3)))
    ]
    members = {"id": draw(hostile), "model": draw(hostile), "choices": choices, "usage": USAGE, "object": draw(hostile)}
    return dict(draw(st.permutations(list(members.items()))))


@settings(max_examples=150, deadline=None)
@given(completions(), st.integers(1, 300), st.sampled_from([None, 1]), st.booleans())
def test_a_completion_says_its_usage_and_who_answered(
    said: dict[str, Any], size: int, indent: int | None, ascii_: bool
) -> None:
    text = json.dumps(said, indent=indent, ensure_ascii=ascii_).encode("utf-8", "replace")
    whole = read("single", text, Answer, size)
    assert json.loads(whole.usage or b"null") == USAGE
    assert (whole.model_version, whole.response_id, whole.finish_reason) == (
        *(json.loads(text)[name] or None for name in ("model", "id")),
        said["choices"][0]["finish_reason"],
    )
    assert whole.complete
    assert not whole.unseen
    for window in (64, 200):
        seen = read("single", text, Answer, size, window)
        if seen.usage is None:
            assert seen.unseen or len(text) <= window
        else:
            assert seen.usage == whole.usage, "never another one"
        assert seen.model_version in (None, whole.model_version)
        assert seen.response_id in (None, whole.response_id)


def test_the_usage_of_a_stream_is_its_last_and_the_mark_of_its_end_is_none() -> None:
    other = {**WITH_CHOICES, "usage": {**USAGE, "total_tokens": 1}}
    stop = {**CHUNK, "choices": [{"finish_reason": "stop"}]}
    text = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in (other, stop, OF_USAGE)) + b"data: [DONE]\n\n"
    for size in (1, 7, 1 << 20):
        seen = read("sse", text, Answer, size)
        assert json.loads(seen.usage or b"") == USAGE
        assert (seen.model_version, seen.response_id, seen.finish_reason) == (CHUNK["model"], "a", "stop")
        assert seen.complete


@pytest.mark.parametrize("error", [{"error": {"code": 429}}, [{"error": {"code": 429}}], {"error": {"message": "x"}}])
def test_an_error_in_mid_stream_is_one_also_in_an_array(error: Any) -> None:
    seen = read("sse", b"data: %b\n\n" % json.dumps(error).encode(), Answer)
    assert seen.errored


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["b64_json", "url", "failed", "empty", "revised", "odd"]), max_size=6),
    st.integers(1, 400),
    st.sampled_from([64, 65_536]),
    hostile,
)
def test_pictures_that_came_are_counted_and_failed_ones_are_not(
    kinds: list[str], size: int, window: int, words: str
) -> None:
    of_kind: dict[str, dict[str, Any]] = {
        "b64_json": {"b64_json": "QUJD" * 100, "revised_prompt": words},
        "url": {"url": "https://x/a.png"},
        "failed": {"error": {"message": words}, "b64_json": None},
        "empty": {"b64_json": ""},
        "odd": {'x"b64_json': "x", 'x"url': "x"},
        "revised": {"revised_prompt": f'{words}"b64_json":"x"'},
    }
    text = json.dumps({"created": 1, "data": [of_kind[kind] for kind in kinds]}).encode()
    seen = read("single", text, Pictures, size, window)
    assert seen.images == sum(kind in ("b64_json", "url") for kind in kinds)
    assert not seen.uncounted
    assert seen.complete


def test_pictures_of_megabytes_are_counted_in_bounded_memory() -> None:
    picture = {"b64_json": "QUJD" * (1 << 20)}
    text = json.dumps({"created": 1, "data": [picture, {"b64_json": None}, picture]}).encode()
    scanner, held = for_framing("single", document=Pictures), 0
    for start in range(0, len(text), 65_536):
        for _ in scanner.feed(text[start : start + 65_536]):
            pass
        held = max(held, scanner._document._tail_length if scanner._document._counter else 0)  # type: ignore[attr-defined]
    assert scanner.finish(True).images == 2
    assert held <= 3 * 65_536


def test_each_operation_is_answered_with_its_kind_of_document() -> None:
    assert document_of("generateContent") is Document
    assert document_of("openai.embeddings") is document_of("openai.chat.completions") is Answer
    assert document_of("openai.images.generations") is Pictures
