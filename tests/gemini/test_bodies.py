"""Bodies: what they ask for, what they may not name, and that a cheap look sees what a full parse would."""

from __future__ import annotations

import base64
import json
import mmap
import random
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.errors import CallerErred, Reason
from proxy.gemini import bodies, references
from proxy.gemini.bodies import BodyFacts, look, skim
from proxy.gemini.hints import hint
from proxy.gemini.inline import PIECE
from proxy.gemini.references import camel

HOSTS = frozenset({"gemini.example"})
PICTURE = base64.b64encode(random.Random(1).randbytes(60_000)).decode()
BASE64 = b'"data":"' + PICTURE.encode() + b'"'


def facts(body: bytes | str | Any, operation: str = "generateContent") -> BodyFacts:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return look(raw, operation, "gemini-3-pro-image", HOSTS)


def asks(text: str = "a red bicycle", *pictures: str, **rest: Any) -> dict[str, Any]:
    inline = [{"inlineData": {"mimeType": "image/png", "data": picture}} for picture in pictures]
    return {"contents": [{"role": "user", "parts": [{"text": text}, *inline]}], **rest}


def refused(body: Any, reason: Reason, operation: str = "generateContent") -> str:
    with pytest.raises(CallerErred) as error:
        facts(body, operation)
    assert error.value.reason is reason
    return error.value.message


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"nonsense", b'{"contents": [', b"{'contents': []}"])
def test_a_body_that_is_no_json_and_names_nothing_is_left_to_google(body: bytes) -> None:
    assert facts(body) == BodyFacts(text_bytes=len(body))


def test_text_that_only_speaks_of_such_names_crosses() -> None:
    text = 'Explain {"fileUri": "files/x"}, cachedContent: and the model: in C:\\u0066oo\\index'
    assert facts(asks(text)).text_bytes > len(text)
    history = {"contents": [{"role": "model", "parts": [{"text": "é \u6f22 \U0001f388"}]}]}
    assert facts(history) == BodyFacts(text_bytes=len(json.dumps(history)))


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"]
)
def test_other_encodings_than_utf_8_are_refused(encoding: str) -> None:
    assert "UTF-8" in refused(json.dumps(asks()).encode(encoding), Reason.BAD_REQUEST)


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc1\xa6ileUri", b"\xc0\xa2", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"]
)
@pytest.mark.parametrize(
    "around", [b'{"text": "%b"}', b'{"text": "%b", ' + BASE64 + b"}", b'{"data": "%b' + PICTURE.encode() + b'"}']
)
def test_invalid_utf_8_is_refused_wherever_it_stands(bad: bytes, around: bytes) -> None:
    assert "UTF-8" in refused(around.replace(b"%b", bad), Reason.BAD_REQUEST)


def test_text_beyond_ascii_crosses_beside_inline_data() -> None:
    got = facts(json.dumps(asks("größer 🎈", PICTURE), ensure_ascii=False))
    assert (got.inline_pictures, got.text_bytes < 500) == (1, True)


@pytest.mark.parametrize(
    "hides",
    [
        # What looks like inline data from here is something else for whoever takes single quotes.
        b"{'x" + BASE64[:-1] + b"': 1, 'fileUri': 'files/x', 'y\"': 1}",
        b"{'a\"data\":\"': 1, 'p': '" + PICTURE.encode() + b"', 'fileUri': 'files/x', 'b\"': 2}",
        b'{"data":"' + PICTURE.encode() + b'\\", fileUri: 1, "x":"' + PICTURE.encode() + b'"}',
        b'{"data":"' + PICTURE.encode() + b'\\\\", "fileUri": "files/x"}',
        b'{"data":"' + PICTURE.encode() + b'\\/", "fileUri": "files/x"}',
        b'{/* "data":"' + PICTURE.encode() + b'*/fileUri: "files/x", "y":""}',
    ],
)
def test_inline_data_hides_nothing(hides: bytes) -> None:
    with pytest.raises(CallerErred):
        facts(hides)


@pytest.mark.parametrize(
    "body",
    [
        b'{"f\\ileUri": "files/x"}',
        b'{"\\x66ileUri": "files/x"}',
        b'{"\\U0066ileUri": "files/x"}',
        b'{"\\u66ileUri": "files/x"}',
        b"{'fileUri': 'files/x'}",
        b'{fileUri: "files/x"}',
        b'{"fileUri": "files/x",}',
        b"{model: 'models/other'}",
        b"{'model' : 'models/other'}",
        b"{model/**/: 'models/other'}",
        b'{"model":' + b" " * 600_000 + b'"models/other",}',
        b'{"model"' + b" " * 600_000 + b':"models/other",}',
    ],
)
def test_names_in_what_only_a_lenient_parser_reads_are_refused(body: bytes) -> None:
    refused(body, Reason.BAD_REQUEST)


def test_a_model_in_the_body_must_be_the_paths() -> None:
    assert facts({"model": "models/gemini-3-pro-image", **asks()}).candidates == 1
    refused({"model": "models/gemini-3-flash", **asks()}, Reason.BAD_REQUEST)
    refused(b'{"requests": [{"\\u006dodel": "models/x"}]}', Reason.BAD_REQUEST, "batchEmbedContents")
    refused({"generateContentRequest": {"model": "models/x"}}, Reason.BAD_REQUEST, "countTokens")


def test_settings_and_tools_spelled_in_escapes_are_read() -> None:
    body = b'{"generation\\u0043onfig":{"candidateC\\u006funt":4},"tools":[{"google\\u0053earch":{}}]}'
    assert facts(body) == BodyFacts(candidates=4, text_bytes=len(body), tools=True, hint=hint("one-candidate"))


@pytest.mark.parametrize("make", [bytes, bytearray])
def test_every_kind_of_buffer_is_looked_at(make: Callable[[bytes], Any]) -> None:
    body = json.dumps(asks("größer", PICTURE), ensure_ascii=False).encode()
    assert look(make(body), "generateContent", "m", HOSTS) == facts(body)


@pytest.mark.parametrize("body", [asks("größer", PICTURE), asks("x"), asks("x", cachedContent="cachedContents/x")])
def test_a_body_on_disk_is_looked_at_like_one_in_memory(body: Any) -> None:
    raw = json.dumps(body, ensure_ascii=False).encode()
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            on_disk = look(view, "generateContent", "m", HOSTS)
        except CallerErred as error:
            on_disk = error.message  # type: ignore[assignment]
        view.close()
    try:
        in_memory = look(raw, "generateContent", "m", HOSTS)
    except CallerErred as error:
        in_memory = error.message  # type: ignore[assignment]
    assert on_disk == in_memory


def test_long_text_is_costly_and_inline_data_is_not() -> None:
    long = "x" * (bodies.SEARCHED_AT_ONCE + 1)
    assert not skim(json.dumps(asks("x", PICTURE * 50)).encode()).costly()
    assert skim(json.dumps(asks(long)).encode()).costly()
    assert skim(b'{"contents": [' + BASE64 * 10 + b"]").costly(), "no JSON: all of it is searched"
    assert not skim(json.dumps(asks("x" * bodies.PARSED_AT_ONCE)).encode()).costly()
    assert skim(json.dumps(asks("x" * bodies.PARSED_AT_ONCE, model="m")).encode()).costly()
    small = skim(json.dumps(asks("x" * bodies.SPLICED_AT_ONCE, model="m")).encode())
    assert (small.costly(), small.costly(aliased=True)) == (False, True)
    assert not skim(json.dumps(asks("x" * bodies.SPLICED_AT_ONCE)).encode()).costly(aliased=True)


@pytest.mark.parametrize("before", range(PIECE - 40, PIECE + 4))
def test_a_name_is_found_across_the_pieces_of_a_long_text(before: int) -> None:
    start = b'{"t":"'
    reference = b'","file_uri":"files/x"}'
    body = start + b"x" * (before - len(start)) + reference
    refused(body + b" " * PIECE, Reason.RESOURCE_NOT_OWNED)


@pytest.mark.parametrize("before", range(PIECE - 80, PIECE + 4, 3))
@pytest.mark.parametrize("picture", [b'"mimeType": "image/png"', b'"mime_type": "image/png"'])
def test_a_picture_across_the_pieces_of_a_long_text_is_counted_once(before: int, picture: bytes) -> None:
    start = b'{"t":"_'
    body = start + b"x_" * ((before - len(start) - 2) // 2) + b'",' + picture + b"}"
    assert facts(body + b" " * PIECE).inline_pictures == 1


def test_text_too_long_to_parse_is_refused_only_where_it_must_be_parsed() -> None:
    long = "\u6f22" * 800_000
    assert len(json.dumps(asks(long))) > references.MAX_PARSED
    assert facts(asks(long)).candidates == 1
    assert "longer than" in refused(asks(long, cachedContent=""), Reason.BAD_REQUEST)


@pytest.mark.parametrize("before", range(PIECE - 170, PIECE + 4, 7))
def test_underscores_hide_no_name_across_the_pieces_of_a_long_text(before: int) -> None:
    start = b'{"t":"'
    body = start + b"x" * (before - len(start)) + b'","file' + b"_" * 150 + b'Uri":"files/x"}'
    refused(body + b" " * PIECE, Reason.RESOURCE_NOT_OWNED)


@pytest.mark.parametrize("before", range(PIECE - 12, PIECE + 2))
def test_an_escape_across_the_pieces_of_a_long_text_hides_no_name(before: int) -> None:
    start = b'{"t":"'
    body = start + b"x" * (before - len(start)) + b'","f\\u0069leUri":"files/x"}'
    refused(body + b" " * PIECE, Reason.RESOURCE_NOT_OWNED)


@pytest.mark.parametrize("cut", [b"model train", b"\\u00e9", b"1234" + "\U0001f388".encode()])
def test_what_the_end_of_a_piece_cuts_off_is_judged_by_the_next(cut: bytes) -> None:
    start = b'{"t":"' + b"x" * (PIECE - 6 - 5)
    assert facts(start + cut + b"x" * references.MAX_PARSED + b'"}').candidates == 1


@pytest.mark.parametrize("name", ['"tools"', "'tools'", "tools", '"TOOLS" ', '"to_ols"', '"too\\u006cs"'])
def test_tools_of_any_kind_are_seen_however_they_are_spelled(name: str) -> None:
    assert facts(f'{{"contents": [], {name}: [{{"functionDeclarations": []}}]}}').tools


def test_text_that_only_speaks_of_tools_declares_none() -> None:
    assert not facts(asks("the right tools for a job", toolConfig={})).tools


NAMES = ["fileUri", "file_uri", "cachedContent", "cached_content", "fileSearchStoreNames", "file_search_store_names"]
HELD = [
    "files/abc",
    "https://generativelanguage.googleapis.com/v1beta/files/abc",
    "https://gemini.example/files/a",
    "x",
]
texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["model", "fileUri", '"data":"', PICTURE])
keys = st.sampled_from(["contents", "parts", "text", "data", "inlineData", "mimeType", "args", "role"]) | texts
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def spelled(draw: Callable[[Any], Any], value: Any) -> str:
    """A JSON text of `value`, with white space and escapes drawn."""
    gap = draw(st.sampled_from(["", "", " ", "\n\t "]))
    if isinstance(value, dict):
        members = [f"{gap}{spelled(draw, key)}{gap}:{spelled(draw, member)}" for key, member in value.items()]
        return f"{gap}{{{','.join(members)}{gap}}}{gap}"
    if isinstance(value, list):
        return f"{gap}[{','.join(spelled(draw, item) for item in value)}{gap}]{gap}"
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    if isinstance(value, str) and value and len(value) < 50:
        style = draw(st.sampled_from(["plain", "slash", "some", "all"]))
        if style == "slash":
            text = text.replace("/", "\\/")
        elif style in ("some", "all"):
            chosen = draw(st.sets(st.integers(0, len(value) - 1))) if style == "some" else set(range(len(value)))
            text = '"' + "".join(escaped(c, i in chosen) for i, c in enumerate(value)) + '"'
    return f"{gap}{text}{gap}"


def escaped(character: str, forced: bool) -> str:
    if forced and ord(character) < 0x10000:
        return f"\\u{ord(character):04X}"
    return json.dumps(character, ensure_ascii=False)[1:-1]


@st.composite
def naming(draw: st.DrawFn) -> tuple[bytes, Any]:
    """A document that names what isn't the caller's somewhere, in some spelling."""
    name, held = draw(st.sampled_from(NAMES)), draw(st.sampled_from(HELD))
    inner: Any = {**draw(st.dictionaries(texts, documents, max_size=2)), name: draw(st.sampled_from([held, [held]]))}
    for _ in range(draw(st.integers(0, 3))):
        around = draw(st.dictionaries(keys, documents, max_size=2))
        inner = [draw(documents), inner] if draw(st.booleans()) else {**around, draw(keys): inner}
    return spelled(draw, inner).encode(), inner


@settings(max_examples=200, deadline=None)
@given(naming())
def test_no_spelling_of_a_reference_passes(case: tuple[bytes, Any]) -> None:
    body, document = case
    assert json.loads(body) == document
    with pytest.raises(CallerErred):
        facts(body)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.dictionaries(st.sampled_from(["contents", "tools", "systemInstruction"]), documents))
def test_documents_that_name_nothing_cross(data: st.DataObject, document: dict[str, Any]) -> None:
    assume(not unusual(document))
    body = spelled(data.draw, document).encode()
    got = facts(body)
    assert got.text_bytes <= len(body)
    assert (got.image_size, got.candidates) == (None, 1)


@settings(max_examples=150, deadline=None)
@given(naming(), st.integers(0), st.sampled_from([b'"', b"'", b"\\", b"{", b"}", b":", b",", b" ", b"/*", BASE64]))
def test_one_byte_more_opens_no_way_past(case: tuple[bytes, Any], at: int, more: bytes) -> None:
    """Whatever is still JSON with the reference in it is refused."""
    body = case[0]
    at %= len(body) + 1
    broken = body[:at] + more + body[at:]
    try:
        still = json.loads(broken)
    except ValueError:
        return
    if any(held in json.dumps(still).replace("\\/", "/") for held in HELD[:3]) and names(still):
        with pytest.raises(CallerErred):
            facts(broken)


def unusual(value: Any) -> bool:
    """Has a field that names a resource, or two that are one in camelCase."""
    if isinstance(value, dict):
        folded = {camel(key) for key in value}
        named = {name.lower() for name in NAMES} & {key.replace("_", "").lower() for key in value}
        return bool(named) or len(folded) < len(value) or any(map(unusual, value.values()))
    return isinstance(value, list) and any(map(unusual, value))


def names(value: Any) -> bool:
    if isinstance(value, dict):
        return any((k in NAMES and v in (*HELD, *[[h] for h in HELD])) or names(v) for k, v in value.items())
    return isinstance(value, list) and any(names(item) for item in value)


def test_inline_media_are_told_apart_and_shared_out() -> None:
    """What isn't a picture is known by its bytes, about: media in one body are taken for equally large."""
    data = "A" * 4000
    kinds = ("audio/mpeg", "video/mp4", "application/pdf", "image/png")
    parts = [{"inlineData": {"mimeType": kind, "data": data}} for kind in kinds]
    got = facts(json.dumps({"contents": [{"parts": parts}]}).encode())
    assert (got.inline_pictures, got.audio_bytes, got.video_bytes, got.document_bytes) == (1, 3000, 3000, 3000)


@pytest.mark.parametrize("kind", ["text/plain", "TEXT/CSV", "text\\/html", "text\\u002fplain", "x/y"])
def test_inline_data_that_may_be_text_counts_as_text(kind: str) -> None:
    """So a prompt can't be hidden from limits in it; nor in what is only called data."""
    data = '"data": "' + "A" * 4000 + '"}}'
    picture = '{"inlineData": {"mimeType": "image/png", ' + data
    text = '{"inlineData": {"mimeType": "' + kind + '", ' + data
    args = '{"functionResponse": {"response": {' + data + "}"
    for part, texts, pictures in ((picture, 0, 1), (text, 1, 0), (args, 1, 0), (f"{text},{picture},{args}", 2, 1)):
        body = '{"contents": [{"parts": [' + part + "]}]}"
        got = facts(body)
        assert got.inline_pictures == pictures
        assert got.text_bytes == len(body) - 4000 * (texts + pictures) + 3000 * texts
        assert (got.audio_bytes, got.video_bytes, got.document_bytes) == (0, 0, 0)
