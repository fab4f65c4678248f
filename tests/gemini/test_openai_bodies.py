"""Request bodies in OpenAI's shape: what they say is read strictly, and spliced without touching anything else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import CallerErred, Reason
from proxy.gemini import edits
from proxy.gemini.aliases import Aliases
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.bounds import ANY_COUNT
from proxy.gemini.openai_bodies import CHAT, EMBEDDINGS, PICTURES, READ_AT_ONCE, skim

HOSTS = frozenset({"upstream.example"})
ALIASES = Aliases(lambda model: {"gpt-4o": "gemini-3.8-flash"}.get(model, model), ["gpt-4o"])
BASE64 = base64.b64encode(bytes(range(256)) * 30).decode()
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}}
SOUND = {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}}
PAPER = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{BASE64}"}}


def chat(*parts: Any, **fields: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "Hi"}, *parts]
    return {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": content}], **fields}


def facts(body: Any, operation: str = CHAT, aliases: Aliases | None = None) -> BodyFacts:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return skim(text).read(operation, "", HOSTS, bounded=True, aliases=aliases)


def refused(body: Any, operation: str = CHAT) -> tuple[Reason, str, str]:
    with pytest.raises(CallerErred) as caught:
        facts(body, operation)
    return caught.value.reason, caught.value.param, caught.value.message


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "models/gemini-3.8-flash"])
def test_the_model_is_the_bodys_with_or_without_its_prefix(model: str) -> None:
    named = facts(chat(model=model)).named
    assert named == ("gemini-3.8-flash", "gemini-3.8-flash", False, False)


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"model": None}, {"model": 3}, {"model": ""}, {"model": ["m"]}, {"model": "models/"}, {"model": "a/b"}),
        *({"model": "google/gemini"}, {"Model": "m"}, {"model": "m", "Model": "m"}, {"mo_del": "m"}, {"model": "<m>"}),
    ],
)
def test_a_body_whose_model_is_missing_or_no_id_is_refused_and_the_parameter_named(body: dict[str, Any]) -> None:
    assert refused(body)[:2] == (Reason.BAD_REQUEST, "model")


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"[]",
            b"null",
            b"{",
            b'{"model": "m"',
            b'{"model": "m",}',
            b'{"model": "m", "model": "m"}',
            b"{'model': 1}",
        ),
        *(b'{"model": "m", "n": NaN}', b'\xef\xbb\xbf{"model": "m"}', b'{"model": "\xff"}', b'{"model": "m"} {}'),
        b'{"model": "m", "stream_options": {}, "streamOptions": {}}',
        b'{"model": "m", "mod\\u0065l": "n"}',
    ],
)
def test_what_is_no_strict_json_with_unique_keys_is_refused(body: bytes) -> None:
    assert refused(body)[0] is Reason.BAD_REQUEST


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"])
def test_what_is_in_another_encoding_is_told_to_come_in_utf_8(encoding: str) -> None:
    with pytest.raises(CallerErred, match="or begins with a byte order mark"):
        skim('{"model": "m"}'.encode(encoding))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"Stream": True}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options"),
        ({"stream": True, "Stream_Options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": True, "Include_Usage": False}}, "include_usage"),
    ],
)
def test_how_it_is_to_be_answered_is_never_guessed(fields: dict[str, Any], param: str) -> None:
    assert refused(chat(**fields))[:2] == (Reason.BAD_REQUEST, param)


@pytest.mark.parametrize("operation", [EMBEDDINGS, PICTURES])
def test_only_chats_are_streamed(operation: str) -> None:
    assert refused({"model": "m", "stream": True}, operation)[:2] == (Reason.BAD_REQUEST, "stream")
    assert facts({"model": "m", "stream": False}, operation).named == ("m", "m", False, False)


def spelled(value: Any, draw: st.DrawFn) -> str:
    """JSON with whatever spaces and escapes."""
    gap = draw(st.sampled_from(["", " ", "\n\t"]))
    if isinstance(value, dict):
        members = [f"{spelled(key, draw)}{gap}:{spelled(member, draw)}" for key, member in value.items()]
        return "{" + gap + f"{gap},".join(members) + gap + "}"
    if isinstance(value, list):
        return "[" + gap + f",{gap}".join(spelled(element, draw) for element in value) + "]"
    if isinstance(value, str) and draw(st.integers(0, 3)) == 0:
        return '"' + "".join(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else char for char in value) + '"'
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


texts = st.text(max_size=12) | st.sampled_from(["gpt-4o", '"model":"gpt-4o"', '{"stream_options":{}}', "models/gpt-4o"])
free = st.recursive(
    texts | st.none() | st.integers(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("abc"), children, max_size=3),
    max_leaves=5,
)


@st.composite
def streamed(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    members: dict[str, Any] = {
        "model": draw(st.sampled_from(["gpt-4o", "models/gpt-4o", "gemini-3.8-flash", "models/gemini-3.8-flash"])),
        "messages": draw(free),
        "stream": draw(st.sampled_from([True, False, None])),
        "user": draw(texts),
        "x": draw(st.sampled_from([SOUND, PICTURE, None])),
    }
    options = draw(
        st.sampled_from([None, {}, {"include_usage": None}, {"include_usage": True}, {"includeUsage": False}])
    )
    if draw(st.booleans()):
        members[draw(st.sampled_from(["stream_options", "streamOptions"]))] = options and {**options, "a": draw(free)}
    members = dict(draw(st.permutations(list(members.items()))))
    return spelled(members, draw).encode("utf-8", "replace"), members


@settings(max_examples=150, deadline=None)
@given(streamed())
def test_what_goes_up_says_the_same_but_for_alias_and_usage(case: tuple[bytes, dict[str, Any]]) -> None:
    body, _ = case
    said = json.loads(body)
    seen = facts(body, aliases=ALIASES)
    up = edits.spliced(body, seen.splices)
    assert len(up) == len(body) + seen.growth
    name = "streamOptions" if "streamOptions" in said else "stream_options"
    options = said.get(name) or {}
    includes = "includeUsage" if "includeUsage" in options else "include_usage"
    adds = bool(said["stream"]) and not options.get(includes)
    expected = {**said, "model": said["model"].replace("gpt-4o", "gemini-3.8-flash")}
    if adds:
        expected[name] = {**options, includes: True}
    assert json.loads(up) == expected
    assert seen.named is not None
    assert (seen.named.streams, seen.named.adds_usage) == (bool(said["stream"]), adds)


def test_pictures_sound_and_papers_are_no_text() -> None:
    seen = facts(chat(PICTURE, PICTURE, SOUND, PAPER))
    decoded = len(BASE64) * 3 // 4
    assert (seen.inline_pictures, seen.audio_bytes, seen.document_bytes) == (2, decoded, decoded)
    assert seen.text_bytes < 800
    assert seen.bounds is not None
    assert seen.bounds.unbounded_input, "what sound and papers weigh doesn't show"
    assert facts(chat(PICTURE)).bounds == (facts(chat(PICTURE)).text_bytes, 1, False, False, False, 1, None, False)


@pytest.mark.parametrize(
    "hides",
    [
        {"type": "text", "text": f"data:image/png;base64,{BASE64}"},
        {"type": "text", "data": BASE64},
        {"type": "image_url", "image_url": {"url": f"data:text/plain;base64,{BASE64}"}},
        {"type": "file", "file": {"file_data": BASE64}},
        {f"data:image/png;base64,{BASE64}": 1},
    ],
)
def test_what_only_looks_like_inline_data_weighs_as_text(hides: dict[str, Any]) -> None:
    """Also beside an empty one that would account for it."""
    empty = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    for parts in ([hides], [hides, empty], [empty, hides, {"input_audio": {"data": ""}}]):
        seen = facts(chat(*parts))
        assert seen.bounds is not None
        assert seen.text_bytes == seen.bounds.text_bytes >= len(BASE64)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "files/abc"}},
        {"type": "image_url", "image_url": {"url": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        {"type": "image_url", "image_url": {"url": "files/abc"}},
        {"type": "image_url", "image_url": "https://upstream.example/files/abc"},
        {"type": "file", "file": {"file_url": "https://a@upstream.example/x"}},
        {"type": "video_url", "videoUrl": {"u_rl": "files/abc"}},
        {"fileData": {"file_uri": "files/abc"}},
    ],
)
def test_a_file_of_the_upstreams_is_nobodys(part: dict[str, Any]) -> None:
    assert refused(chat(part))[0] is Reason.RESOURCE_NOT_OWNED


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_body": {"google": {"cached_content": "cachedContents/a"}}},
        {"google": {"cachedContent": "cachedContents/a"}},
        {"cached_content": "cachedContents/a"},
        {"extra_body": {"google": {"file_search_store_names": ["fileSearchStores/a"]}}},
    ],
)
def test_a_cache_or_store_of_the_upstreams_is_nobodys(fields: dict[str, Any]) -> None:
    assert refused(chat(**fields))[0] is Reason.RESOURCE_NOT_OWNED


def test_a_picture_on_another_host_crosses_and_has_no_bound() -> None:
    seen = facts(chat({"type": "image_url", "image_url": {"url": "https://cdn.example/a.png"}}))
    assert seen.bounds is not None
    assert seen.bounds.unbounded_input


def test_names_in_what_is_the_callers_own_json_say_nothing() -> None:
    schema = {"type": "object", "properties": {"url": {"default": "files/a"}, "file_id": {"const": "x"}}, "url": "a"}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert facts(chat(tools=[tool], response_format={"json_schema": {"url": "files/a"}}, metadata={"url": "a"})).named


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"google_search": {}}]},
        {"tools": [{"type": "google_search"}]},
        {"tools": [{"type": "function", "function": {}, "googleSearch": {}}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": {"google_search": {}}},
        {"tools": ["google_search"]},
        {"web_search_options": {}},
        {"extra_body": {"google": {"tools": [{"google_search": {}}]}}},
        {"google": {"too_ls": [{"google_maps": {}}]}},
    ],
)
def test_tools_that_google_runs_are_refused_for_their_queries_show_nowhere(fields: dict[str, Any]) -> None:
    assert refused(chat(**fields))[0] is Reason.UNMETERABLE_PARAMETER


@pytest.mark.parametrize(
    "fields",
    [
        {"modalities": ["text", "image"]},
        {"extra_body": {"google": {"image_config": {"image_size": "4K"}}}},
        {"google": {"responseModalities": ["IMAGE"]}},
    ],
)
def test_a_chat_that_asks_for_pictures_is_refused_and_told_where_they_are_made(fields: dict[str, Any]) -> None:
    reason, _, message = refused(chat(**fields))
    assert reason is Reason.BAD_REQUEST
    assert "generateContent" in message
    assert "/v1/images/generations" in message
    assert facts({**chat(**fields), "prompt": "x"}, PICTURES).asks_images


@pytest.mark.parametrize(
    ("fields", "candidates", "cap"),
    [
        ({}, 1, None),
        ({"n": 3, "max_tokens": 50}, 3, 50),
        ({"n": None, "max_completion_tokens": 70, "max_tokens": 50}, 1, 70),
        ({"n": "many"}, ANY_COUNT, None),
        ({"n": -1}, ANY_COUNT, None),
        ({"max_tokens": 50, "max_completion_tokens": "few"}, 1, None),
        ({"max_tokens": 50, "extra_body": {"google": {"max_output_tokens": 9}}}, 1, None),
        ({"extra_body": {"google": {"candidate_count": 9}}}, ANY_COUNT, None),
    ],
)
def test_what_bounds_an_answer_is_what_is_understood_for_sure(
    fields: dict[str, Any], candidates: int, cap: int | None
) -> None:
    bounds = facts(chat(**fields)).bounds
    assert bounds is not None
    assert (bounds.candidates, bounds.max_output_tokens) == (candidates, cap)


def test_who_asks_for_a_tier_is_held_by_the_dearest() -> None:
    tiers = [facts(chat(**fields)).bounds for fields in ({}, {"service_tier": "flex"}, {"serviceTier": "priority"})]
    assert [bounds is not None and bounds.asks_tier for bounds in tiers] == [False, True, True]


def test_long_text_is_read_in_a_thread_and_inline_data_is_not_text() -> None:
    assert not skim(json.dumps(chat(PICTURE, SOUND, PAPER)).encode()).costly()
    assert skim(json.dumps(chat(user="x" * READ_AT_ONCE)).encode()).costly()
    reason, _, message = refused(chat(user="x" * (1 << 20)))
    assert reason is Reason.BAD_REQUEST
    assert "1048576 bytes" in message
