"""Splices, and redaction: our key and our project's number go; every other byte stays."""

from __future__ import annotations

import json
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gemini import edits
from proxy.gemini.edits import Splice, redact, spliced

KEY = b"AIza" + b"SyD-0_9aZ" + b"x" * 26


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"consumer": "projects/578829824020"', b'"consumer": "projects/0"'),
        (b'"consumer":"projects\\/578829824020"', b'"consumer":"projects\\/0"'),
        (b'"consumer": "projects/my-own-project"', b'"consumer": "projects/0"'),
        (b'"consumer": "project_number:578829824020"', b'"consumer": "project_number:0"'),
        (b"for consumer 'project_number:123'.", b"for consumer 'project_number:0'."),
        (b"for consumer \\u0027project_number:123\\u0027.", b"for consumer \\u0027project_number:0\\u0027."),
        (b"has not been used in project 411082643095 before", b"has not been used in project 0 before"),
        (b"overview?project=411082643095 then retry", b"overview?project=0 then retry"),
        (b"overview?project\\u003d411082643095", b"overview?project\\u003d0"),
        (b"overview?project%3D411082643095", b"overview?project%3D0"),
        (b"//x/projects/411082643095/locations/global", b"//x/projects/0/locations/global"),
        (b"projects%2F411082643095", b"projects%2F0"),
        (b'"containerInfo": "411082643095"', b'"containerInfo": "0"'),
        (b'"projectNumber": 411082643095,', b'"projectNumber": 0,'),
        (b"Project #411082643095", b"Project #0"),
    ],
)
def test_a_project_is_redacted_wherever_google_writes_it(before: bytes, after: bytes) -> None:
    assert redact(before, KEY) == after
    assert redact(after, KEY) == after


@pytest.mark.parametrize(
    "spelling",
    [
        KEY,
        b"".join(b"%%%02X" % byte for byte in KEY),
        b"".join(b"%%%02x" % byte for byte in KEY),
        KEY.replace(b"-", b"%2D").replace(b"_", b"%5f"),
        b"".join(b"\\u%04x" % byte for byte in KEY),
        KEY.replace(b"z", b"\\u007A"),
    ],
)
def test_the_key_is_redacted_in_any_spelling(spelling: bytes) -> None:
    assert redact(b"Consumer 'api_key:" + spelling + b"' has", KEY) == b"Consumer 'api_key:REDACTED' has"


def test_a_key_with_odd_characters_is_redacted_as_json_and_urls_spell_it() -> None:
    key = 'a+b/c"d\\e.f'
    for spelling in (key, quote(key, safe=""), json.dumps(key)[1:-1], json.dumps(key)[1:-1].replace("/", "\\/")):
        assert redact(f"<{spelling}>".encode(), key.encode()) == b"<REDACTED>"
    assert redact(b"aab/c", b"a.b") == b"aab/c", "a dot in a key is a dot"


def test_json_stays_json_when_a_backslash_stands_before_the_key() -> None:
    body = json.dumps({"path": "C:\\" + KEY.decode()}).encode()
    assert json.loads(redact(body, KEY)) == {"path": "C:\\REDACTED"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"error": {"code": 429, "message": "limit: 1000000, model: gemini-3.1-pro\\nPlease retry in 45.81s."}}',
        b"A project of 2026 with 3 projects 12 and project 42",
        b'{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel", "quotaValue": "1000000"}',
        b"PerProjectPerModel-1234567",
        b"AIzaSyD-of-somebody-else-0123456789012345",
        b"\xff\x00 not even text",
    ],
)
def test_a_body_with_nothing_of_ours_is_the_same_byte_for_byte(body: bytes) -> None:
    assert redact(body, KEY) == body


def test_without_a_secret_only_projects_are_redacted() -> None:
    assert redact(b"abc projects/1", b"") == b"abc projects/0"


@given(
    before=st.binary(max_size=20),
    after=st.binary(max_size=20),
    spelled=st.lists(st.sampled_from([b"%c", b"%%%02x", b"%%%02X", b"\\u%04x"]), min_size=len(KEY), max_size=len(KEY)),
)
def test_no_mixture_of_spellings_gets_the_key_through(before: bytes, after: bytes, spelled: list[bytes]) -> None:
    spelling = b"".join(form % byte for form, byte in zip(spelled, KEY, strict=True))
    assert redact(before + spelling + after, KEY) == redact(before, b"") + b"REDACTED" + redact(after, b"")


@pytest.mark.parametrize(
    ("piece", "start"),
    [
        (b'\ndata: {"error": {"code": 429, "message": "slow down"}}\r\n\r\n', 7),
        (b',\n{\n  "error": {\n    "code": 500', 2),
        (b'{"args":{"error":{"code":1}}},{"error":{"code":2', 30),
        (b'data: {"candidates":[{"content":{"parts":[{"text":"{\\"error\\":{\\"code\\":1}}"}]}}]}', -1),
        (b'data: {"args":{"error":"none"}}', -1),
        (b'data: {"args" : {"error":{"code":1}}}', -1),
        (b'\n{"error":{"code":1}}', 1),
        (b'\n[ {"error":{"code":1}}', 3),
        (b'\ndata: {"args":{"results":[{"error":{"code":1}}]}}', -1),
        (b'\n  "results": [\n    {\n      "error": {\n        "code": 1', -1),
        (b'\ndata: [{"error": {"code": 429}}]\n\n', 8),
        (b'\ndata: {"error": {"message": "slow down", "code": 429}}\n\n', 7),
        (b',{"error":{"message":"an argument"}}', -1),
        (b"iVBORw0KGgo" * 1000, -1),
    ],
)
def test_an_error_in_a_stream_is_told_from_a_text_or_an_argument_that_speaks_of_one(piece: bytes, start: int) -> None:
    assert edits.find_error(piece, "sse" if b"data:" in piece else "array") == start


@given(st.data(), st.binary(max_size=40))
def test_splices_are_the_same_in_whatever_pieces_a_body_comes(data: st.DataObject, body: bytes) -> None:
    ends = data.draw(st.lists(st.integers(0, len(body)), max_size=8).map(sorted))
    pairs = [(start, end) for start, end in zip(ends[::2], ends[1::2], strict=False) if start < len(body)]
    splices = [Splice(start, end, b"<%d>" % start) for start, end in pairs]
    expected, kept = b"", 0
    for start, end, becomes in splices:
        expected += body[kept:start] + becomes
        kept = end
    expected += body[kept:]
    assert spliced(body, splices) == expected
    assert len(expected) == len(body) + sum(splice.growth for splice in splices)
    cuts = [0, *data.draw(st.lists(st.integers(0, len(body)), max_size=6).map(sorted)), len(body)]
    pieces = [spliced(body[start:end], splices, start) for start, end in pairwise(cuts)]
    assert b"".join(pieces) == expected
