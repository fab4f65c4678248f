"""A document seen through its ends: what a window may and may not believe."""

from __future__ import annotations

import pytest

from proxy.gemini.reading import Reading
from proxy.gemini.windows import Document, is_closed, look_backward, look_forward


def read(text: bytes, *, window: int, size: int = 10_000, complete: bool = True, grounding: bool = False) -> Reading:
    document, reading = Document(window, grounding), Reading()
    for start in range(0, len(text), size):
        for _ in document.feed(text[start : start + size]):
            pass
    reading.complete = document.finish(reading, complete)
    return reading


def test_a_key_counts_at_its_own_depth_only() -> None:
    inner = b'{"candidates":[{"usageMetadata":{"a":1}}],"x":{"usageMetadata":{"a":2}}}'
    assert look_forward(inner) == {}
    assert look_backward(inner) == {}
    assert look_backward(inner[:-1] + b',"usageMetadata" : {"a":3}}') == {b"usageMetadata": b'{"a":3}'}


@pytest.mark.parametrize("backslashes", range(6))
def test_a_quote_is_one_behind_an_even_run_of_backslashes_only(backslashes: int) -> None:
    run = b"\\" * backslashes
    text = b'{"%b"usageMetadata":{"a":1},"y":"z"}' if backslashes % 2 else b'{"x":"%b","usageMetadata":{"a":1},"y":"z"}'
    found = {} if backslashes % 2 else {b"usageMetadata": b'{"a":1}'}
    assert look_forward(text % run) == found
    assert look_backward(text % run) == found


def test_a_window_that_begins_within_an_escape_is_read_all_the_same() -> None:
    text = b'{"x":"' + b"\\" * 40 + b'\\"usageMetadata\\":{}","modelVersion":"m","usageMetadata":{"a":1}}'
    for start in range(1, text.index(b',"modelVersion"')):
        assert look_backward(text[start:]) == {b"usageMetadata": b'{"a":1}', b"modelVersion": b'"m"'}


def test_a_key_that_ends_like_a_wanted_one_is_not_it_wherever_the_window_begins() -> None:
    text = b'{"x":1,"a\\"usageMetadata":{"a":1}}'
    for start in range(len(text)):
        assert look_backward(text[start:]) == {}


def test_a_string_that_reads_like_a_key_is_none_without_a_colon() -> None:
    text = b'{"x":["usageMetadata"],"y":"usageMetadata","z":{"usageMetadata":1}}'
    assert look_forward(text) == {}
    assert look_backward(text) == {}


def test_a_value_cut_off_is_not_believed() -> None:
    assert look_forward(b'{"modelVersion":"m","usageMetadata":{"a":1') == {b"modelVersion": b'"m"'}
    assert look_forward(b'{"modelVersion":"m\\"') == {}


def test_more_wanted_names_than_anyone_writes_hide_only_what_stands_beyond_them() -> None:
    many = b'"x":[' + b",".join([b'{"usageMetadata":{}}'] * 2000) + b"]"
    usage = b'"usageMetadata":{"a":1}'
    assert look_forward(b"{%b,%b}" % (usage, many)) == look_backward(b"{%b,%b}" % (many, usage)) != {}
    hidden = read(b"{%b,%b}" % (many, usage[:-1] + b',"x":"' + b"x" * 70_000 + b'"}'), window=65_536)
    assert (hidden.usage, hidden.unseen) == (None, True)


def test_a_usage_that_is_no_end_of_work_is_unseen() -> None:
    usage = b'"usageMetadata":{"a":[%b]}' % (b"[[[[[[]]]]]]," * 3_000 + b"1")
    for text in (b'{"x":"%b",%b}' % (b"x" * 70_000, usage), b'{%b,"usageMetadata":null}' % usage):
        reading = read(text, window=65_536)
        assert (reading.usage, reading.unseen) == (None, True)


def test_a_long_value_hides_none_that_stands_before_it() -> None:
    """Found by the proof against the oracle, when what is spent on values was bounded over all of them together."""
    text = b'{"responseId":"a","usageMetadata":{"x":"%b"},"modelVersion":"m"}' % (b'\\"' * 40_000)
    reading = read(text, window=65_536)
    assert (reading.response_id, reading.model_version, reading.usage) == ("a", "m", None)


def test_a_usage_nested_at_will_is_read_where_null_follows_it() -> None:
    """Found by the same."""
    usage = b'{"x":' + b'[{"usageMetadata":' * 200 + b"{}" + b"}]" * 200 + b"}"
    reading = read(b'{"usageMetadata":%b,"usageMetadata":null}' % usage, window=65_536)
    assert (reading.usage, reading.unseen) == (usage, False)


def test_of_several_candidates_the_first_ones_reason_is_told() -> None:
    text = b'{"candidates":[{"finishReason":"STOP"},{"finishReason":"SAFETY"}]}'
    assert look_forward(text) == look_backward(text) == {b"finishReason": b'"STOP"'}


@pytest.mark.parametrize(
    ("text", "closed"),
    [(b"{}", True), (b' {"a":[{}]}\n', True), (b'{"a":1', False), (b'{"a":"}', False), (b"[]", False), (b"", False)],
)
def test_a_document_is_closed_by_its_last_bracket(text: bytes, closed: bool) -> None:
    assert is_closed(text) is closed


IMAGES = b"".join(
    b'{"inlineData":{"mimeType" :\n "image/png","data":"%b"}},' % (b"A" * gap) for gap in (0, 1, 200, 5000, 9000)
)


@pytest.mark.parametrize("size", [1, 2, 7, 31, 256, 257, 4096, 16_384])
@pytest.mark.parametrize("grounding", [False, True])
def test_no_image_is_missed_or_counted_twice_however_it_is_cut(size: int, grounding: bool) -> None:
    text = b'{"candidates":[{"content":{"parts":[' + IMAGES * 3 + b'{"text":"x"}]}}],"usageMetadata":{}}'
    assert read(text, window=48, size=size, grounding=grounding).images == 15


def test_an_image_across_two_blocks_of_the_search_is_counted() -> None:
    for gap in range(4060, 4120):
        text = b'{"x":"%b","mimeType":"image/png"}' % (b"x" * gap)
        assert read(text, window=48).images == 1


@pytest.mark.parametrize("backslashes", range(1, 6, 2))
def test_a_name_that_ends_like_a_mime_type_is_none(backslashes: int) -> None:
    name = b"x" * 60 + b"\\" * backslashes + b'"mimeType'
    assert read(b'{"%b":"image/png"}' % name, window=48).images == 0


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_images_in_texts_are_not_counted(size: int) -> None:
    quoted = b'{\\"inlineData\\":{\\"mimeType\\":\\"image/png\\"}}'
    text = b'{"candidates":[{"content":{"parts":[{"text":"' + quoted * 9 + b'"}]}}],"usageMetadata":{}}'
    assert read(text, window=48, size=size).images == 0


def test_images_in_a_calls_arguments_are_not_counted_where_the_request_had_tools() -> None:
    image = b'{"inlineData":{"mimeType":"image/png","data":"AAAA"}}'
    text = b'{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"parts":[%b]}}},%b]}}]}' % (image * 1, image)
    assert read(text, window=48, grounding=True).images == 1


def test_a_response_that_broke_off_yields_what_its_head_proves() -> None:
    text = b'{"modelVersion":"m","usageMetadata":{"a":1},"candidates":[{"content":{"parts":[{"text":"' + b"x" * 200
    for window in (64, 65_536):
        reading = read(text + b'"usageMetadata":{"a":2}}', window=window, complete=False)
        assert (reading.usage, reading.model_version, reading.complete) == (b'{"a":1}', "m", False)


def test_without_a_first_or_a_last_bracket_nothing_is_believed() -> None:
    text = b'"x":"%b","usageMetadata":{"a":1},"y":2' % (b"x" * 200)
    for broken in (b"[" + text + b"}", b"{" + text):
        reading = read(broken, window=64)
        assert (reading.usage, reading.unseen, reading.complete) == (None, True, False)


def test_members_of_unexpected_types_dont_hide_the_others() -> None:
    text = b'{"candidates":{},"modelVersion":3,"responseId":"r","usageMetadata":{"a":1}}'
    reading = read(text, window=65_536)
    assert (reading.usage, reading.model_version, reading.response_id) == (b'{"a":1}', None, "r")
    assert reading.uncounted
