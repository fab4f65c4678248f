"""Request lines → Calls: a table of paths and queries, and properties that hold for any bytes at all."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CallerErred, Reason
from proxy.gemini.calls import parse

GENERATE = b"/v1beta/models/gemini-3-pro-image:generateContent"
STREAM = b"/v1/models/gemini-3-pro-image:streamGenerateContent"


def refusal(method: str, path: bytes, query: bytes = b"") -> CallerErred:
    with pytest.raises(CallerErred) as caught:
        parse(method, path, query)
    return caught.value


@pytest.mark.parametrize(
    ("method", "path", "operation", "model", "target"),
    [
        ("POST", GENERATE, "generateContent", "gemini-3-pro-image", GENERATE),
        ("POST", b"/v1/models/g:countTokens", "countTokens", "g", b"/v1/models/g:countTokens"),
        ("POST", b"/v1alpha/models/g:embedContent", "embedContent", "g", b"/v1alpha/models/g:embedContent"),
        ("GET", b"/v1beta1/models/g", "models.get", "g", b"/v1beta1/models/g"),
        ("GET", b"/v1/models", "models.list", "", b"/v1/models"),
        ("GET", b"/models", "models.list", "", b"/v1beta/models"),
        ("GET", b"/v1beta/models/", "models.list", "", b"/v1beta/models"),
        ("POST", b"/models/g:generateContent", "generateContent", "g", b"/v1beta/models/g:generateContent"),
        ("POST", b"//v1//models///g:countTokens", "countTokens", "g", b"/v1/models/g:countTokens"),
        ("POST", b"/v1/models/g%3AcountTokens", "countTokens", "g", b"/v1/models/g:countTokens"),
        ("POST", b"/v1/models/g%3acountTokens", "countTokens", "g", b"/v1/models/g:countTokens"),
        ("POST", b"/%76%31/models/g%2D1:countTokens", "countTokens", "g-1", b"/v1/models/g-1:countTokens"),
        ("POST", b"/v1beta/v1/models/g:countTokens", "countTokens", "g", b"/v1/models/g:countTokens"),
        ("POST", b"/v1/v1beta/models/g:countTokens", "countTokens", "g", b"/v1beta/models/g:countTokens"),
        ("POST", b"/v1/models/Gemma_3.1-x:countTokens", "countTokens", "Gemma_3.1-x", None),
    ],
)
def test_a_path_becomes_a_call_with_a_canonical_target(
    method: str, path: bytes, operation: str, model: str, target: bytes | None
) -> None:
    call = parse(method, path, b"")
    assert (call.operation.name, call.model) == (operation, model)
    assert call.target == (target or path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (b"/v1beta/models/{model}:generateContent", "placeholder"),
        (b"/v1beta/models/%7Bmodel%7D:generateContent", "placeholder"),
        (b"/v1beta/models/$MODEL:generateContent", "placeholder"),
        (b"/v1beta/models/%3Cmodel%3E:generateContent", "placeholder"),
        (b"/v1beta/models/models/g:generateContent", "twice"),
        (b"/v1beta/models/models%2Fg:generateContent", "encoded slash"),
        (b"/v1beta/models%2fg:generateContent", "encoded slash"),
        (b"/v1beta/models/google/g:generateContent", "malformed"),
        (b"/v1beta/g:generateContent", "models/NAME"),
        (b"/v1beta/models/:generateContent", "missing"),
        (b"/v1beta/models//:generateContent", "missing"),
        (b"/v1beta/models/a:b:generateContent", "malformed"),
        (b"/v1beta/models/a%20b:generateContent", "malformed"),
        (b"/v1beta/models/a%2541:generateContent", "malformed"),
        (b"/v1beta/models/a%252Fb:generateContent", "malformed"),
        (b"/v1beta/models/a?b:generateContent", "malformed"),
        (b"/v1beta/models/a%23b:generateContent", "malformed"),
        (b"/v1beta/models/" + b"a" * 129 + b":generateContent", "at most 128"),
        (b"/v1beta/models/g%:generateContent", "percent"),
        (b"/v1beta/models/g%4:generateContent", "percent"),
        (b"/v1beta/models/g\x00:generateContent", "control"),
        (b"/v1beta/models/g%0d%0a:generateContent", "control"),
        (b"/v1beta/models\\g:generateContent", "backslash"),
        (b"/v1beta/models%5Cg:generateContent", "backslash"),
        (b"/v1beta/models/\xc3\xa9:generateContent", "ASCII"),
        (b"/v1beta/../v1/models", "segment"),
        (b"/v1beta/%2e%2e/models", "segment"),
        (b"/v1beta/./models", "segment"),
        (b"/v1beta/models/.", "segment"),
        (b"/" * 1025, "1024"),
        (b"", "start with a slash"),
        (b"v1/models", "start with a slash"),
        (b"http://generativelanguage.googleapis.com/v1/models", "start with a slash"),
    ],
)
def test_a_malformed_path_is_a_bad_request_that_says_what_is_wrong(path: bytes, says: str) -> None:
    refused = refusal("POST", path)
    assert refused.reason is Reason.BAD_REQUEST
    assert says in refused.message


@pytest.mark.parametrize(
    "key", ["AIza" + "Sy0123456789_-abcdefghijklmnopqrst", "AQ." + "Ab8RN6" + "x" * 40, "wb_" + "7" * 38]
)
def test_a_key_in_the_models_place_is_refused_and_not_repeated(key: str) -> None:
    refused = refusal("POST", f"/v1/models/{key}:generateContent".encode())
    assert refused.reason is Reason.BAD_REQUEST
    assert "key stands" in refused.message
    assert key not in refused.message


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("GET", GENERATE, "generateContent takes POST, not GET"),
        ("HEAD", b"/v1/models", "models.list takes GET, not HEAD"),
        ("PUT", b"/v1/models/g", "models.get takes GET, not PUT"),
        ("POST", b"/v1/models/g", "put its method after the model"),
        ("get", b"/v1/models", "takes GET, not get"),
        ("POST", b"/v1/models/g:predict", "predict is not served. Served are: generateContent, "),
        ("POST", b"/v1/models/g:generatecontent", "generatecontent is not served"),
        ("POST", b"/v1/models/g:generateContent:x", "x is not served"),
        ("GET", b"/v1/models/g/operations", "Served are"),
        ("POST", b"/v1/tunedModels/g:generateContent", "Served are"),
        ("POST", b"/v1/files", "Served are"),
        ("POST", b"/upload/v1/files", "Served are"),
        ("GET", b"/", "Served are"),
        ("GET", b"/v1beta", "Served are"),
        ("GET", b"/v2/models", "version is not served"),
        ("POST", b"/v1/projects/p/locations/l/publishers/google/models/g:generateContent", "Vertex AI"),
        ("POST", b"/v1beta1/publishers/google/models/g:generateContent", "Vertex AI"),
        ("POST", b"/v1/chat/completions", "POST /v1beta/openai/chat/completions"),
        ("POST", b"/openai/v1/chat/completions", "POST /v1beta/openai/chat/completions"),
        ("POST", b"/v1/responses", "POST /v1beta/openai/chat/completions"),
        ("POST", b"/v1beta/openai/images/edits", "POST /v1/images/edits of this proxy"),
        ("POST", b"/v1beta/openai/images/generations/x", "POST /v1beta/openai/images/generations"),
        ("POST", b"/v1beta/openai/files", "as a data URL"),
        ("POST", b"/v1beta/openai/batches", "one by one"),
        ("POST", b"/v1beta/openai/audio/transcriptions", "input_audio"),
        ("POST", b"/v1beta/openai/videos", "POST openai/chat/completions"),
        ("GET", b"/v1beta/openai", "base URL ends with /v1beta/openai/"),
        ("GET", b"/v1beta/openai/chat/completions", "takes POST, not GET"),
        ("POST", b"/v1beta/openai/models", "takes GET, not POST"),
    ],
)
def test_what_is_not_in_the_table_is_unknown_and_the_message_helps(method: str, path: bytes, says: str) -> None:
    refused = refusal(method, path)
    assert refused.reason is Reason.UNKNOWN_OPERATION
    assert says in refused.message


def test_a_refusal_never_repeats_what_might_be_a_key() -> None:
    key = "wb_" + "Ab1" * 12 + "xy"
    for refused in (
        refusal("POST", f"/v1/models/g:{key}".encode()),
        refusal("POST", f"/{key}/models".encode()),
        refusal(key, b"/v1/models"),
        refusal("POST", GENERATE, key.encode()),
        refusal("POST", GENERATE, b"alt=" + key.encode()),
    ):
        assert key not in refused.message


@pytest.mark.parametrize(
    ("query", "framing", "crosses"),
    [
        (b"", "array", b""),
        (b"alt=json", "array", b"?alt=json"),
        (b"alt=sse", "sse", b"?alt=sse"),
        (b"%61lt=ss%65", "sse", b"?%61lt=ss%65"),
        (b"%24alt=sse", "sse", b"?%24alt=sse"),
        (b"$alt=json&prettyPrint=false", "array", b"?$alt=json&prettyPrint=false"),
        (b"alt=sse&alt=sse", "sse", b"?alt=sse&alt=sse"),
        (b"key=K&alt=sse", "sse", b"?alt=sse"),
        (b"alt=sse&key=K", "sse", b"?alt=sse"),
        (b"key=K", "array", b""),
        (b"key", "array", b""),
        (b"key=", "array", b""),
        (b"%6bey=K&alt=sse", "sse", b"?alt=sse"),
        (b"%6Be%79=K", "array", b""),
        (b"$key=K&%24key=L&key=M", "array", b""),
        (b"access_token=T&alt=sse&oauth_token=U", "sse", b"?alt=sse"),
        (b"key=K&key=K2&alt=sse&key=", "sse", b"?alt=sse"),
        (b"&alt=sse&", "sse", b"?&alt=sse&"),
        (b"quotaUser=a%20b+c", "array", b"?quotaUser=a%20b+c"),
    ],
)
def test_the_query_crosses_as_it_came_without_its_credentials(query: bytes, framing: str, crosses: bytes) -> None:
    call = parse("POST", STREAM, query)
    assert call.framing == framing
    assert call.target == STREAM + crosses


def test_alt_sse_on_a_call_that_does_not_stream_crosses() -> None:
    call = parse("POST", GENERATE, b"alt=sse")
    assert (call.framing, call.target) == ("single", GENERATE + b"?alt=sse")


def test_a_list_takes_its_paging() -> None:
    call = parse("GET", b"/v1/models", b"pageSize=5&pageToken=Ch%3D&key=K")
    assert call.target == b"/v1/models?pageSize=5&pageToken=Ch%3D"
    assert refusal("POST", GENERATE, b"pageSize=5").reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    "query",
    [
        b"fields=candidates",
        b"alt=sse&fields=candidates",
        b"%66ields=candidates",
        b"fields",
        b"$fields=candidates",
        b"%24fields=candidates",
        b"callback=f",
        b"$callback=f",
        b"$ct=application/x-protobuf",
        b"$httpMethod=GET",
        b"$httpHeaders=X-Goog-FieldMask:candidates",
        b"alt=proto",
        b"alt=media",
        b"alt=",
        b"alt",
        b"alt=SSE",
        b"alt=json&alt=proto",
        b"$alt=json;enum-encoding=int".replace(b";", b"%3B"),
        b"%24alt=proto",
        b"alt=sse%00",
    ],
)
def test_a_parameter_that_could_hide_the_usage_is_refused(query: bytes) -> None:
    assert refusal("POST", STREAM, query).reason is Reason.UNMETERABLE_PARAMETER


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"foo=1", "foo is not a parameter of streamGenerateContent"),
        (b"$.xgafv=1", "$.xgafv is not"),
        (b"Alt=sse", "Alt is not"),
        (b"KEY=K", "KEY is not"),
        (b"%256bey=K", "A parameter is not"),
        (b"fie+lds=x", "A parameter is not"),
        (b"foo=1", "Taken are: $alt, $prettyPrint, alt, prettyPrint, quotaUser"),
        (b"alt=sse&alt=json", "twice"),
        (b"alt=json&$alt=sse", "twice"),
        (b"alt=sse;fields=x", "percent-encoded"),
        (b"quotaUser=a;fields=x", "percent-encoded"),
        (b"alt=sse#fields=x", "percent-encoded"),
        (b"alt=sse&quotaUser=a b", "percent-encoded"),
        (b"alt=sse&quotaUser=\xff", "percent-encoded"),
        (b"alt=sse&quotaUser=\r\n", "percent-encoded"),
        (b"&" * 64, "too long"),
        (b"quotaUser=" + b"a" * 8192, "too long"),
    ],
)
def test_any_other_parameter_is_a_bad_request_that_names_it(query: bytes, says: str) -> None:
    refused = refusal("POST", STREAM, query)
    assert refused.reason is Reason.BAD_REQUEST
    assert says in refused.message


def test_the_same_request_line_gets_the_same_call_whatever_its_key() -> None:
    assert parse("POST", GENERATE, b"") is parse("POST", GENERATE, b"key=one")
    assert parse("POST", STREAM, b"alt=sse&key=one") is parse("POST", STREAM, b"key=two&alt=sse")


def test_no_value_that_a_client_chose_in_the_query_is_kept() -> None:
    """What is cached is a path and one of a few fixed queries; a page token or a quota user is parsed anew."""
    for query in (b"pageToken=1&key=K", b"quotaUser=1"):
        first, second = (parse("GET", b"/v1alpha/models", query) for _ in range(2))
        assert first == second
        assert first is not second


PIECES = st.sampled_from(
    [
        b"/",
        b"//",
        b"v1",
        b"v1beta",
        b"models",
        b"g",
        b":",
        b"%3A",
        b"%2F",
        b"..",
        b"generateContent",
        b"%",
        b"\\",
        b"\x00",
    ]
)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "", "é"]),
    path=st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=9).map(lambda pieces: b"/" + b"".join(pieces))),
    query=st.binary(max_size=60),
)
def test_parse_answers_any_bytes_with_a_call_or_a_refusal(method: str, path: bytes, query: bytes) -> None:
    try:
        call = parse(method, path, query)
    except CallerErred:
        return
    assert re.match(rb"/v1(alpha|beta1?)?/models", call.target)
    path_up, _, query_up = call.target.partition(b"?")
    assert parse(method, path_up, query_up) == call, "canonical is canonical"
    assert not set(call.target) - set(range(0x21, 0x7F))


def percent_encoded(name: bytes, chosen: list[bool]) -> bytes:
    return b"".join(b"%%%02x" % byte if encode else bytes((byte,)) for byte, encode in zip(name, chosen, strict=True))


@st.composite
def credentials(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from([b"key", b"$key", b"access_token", b"oauth_token"]))
    return percent_encoded(name, draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))) + b"=SECRET"


HARMLESS = st.sampled_from([b"alt=sse", b"", b"prettyPrint=true", b"quotaUser=x", b"%24alt=sse"])


@given(pieces=st.lists(st.one_of(credentials(), HARMLESS), max_size=8))
def test_no_credential_ever_stands_in_the_target(pieces: list[bytes]) -> None:
    call = parse("POST", STREAM, b"&".join(pieces))
    assert b"SECRET" not in call.target
    kept = [piece for piece in pieces if not piece.endswith(b"SECRET")]
    assert call.target == STREAM + (b"?" + b"&".join(kept) if b"&".join(kept) else b"")
    assert b"key" not in unquote_to_bytes(call.target)


@pytest.mark.parametrize(
    "path", [b"/v1beta/openai/models/models%2Fg", b"/v1beta/openai/models/models/g", b"/openai//models/models%2fg/"]
)
def test_an_id_as_the_compatibility_layers_list_says_it_is_the_models(path: bytes) -> None:
    call = parse("GET", path, b"")
    assert (call.operation.name, call.model, call.target) == ("openai.models.get", "g", b"/v1beta/openai/models/g")


def test_a_call_whose_body_names_the_model_is_that_models_from_then_on() -> None:
    call = parse("POST", b"/v1beta/openai/chat/completions", b"")
    assert (call.model, call.framing, call.adds_usage) == ("", "single", False)
    named = call.naming("old", "new", streams=True, adds_usage=True)
    assert (named.model_asked, named.model, named.counted_as) == ("old", "new", "new")
    assert (named.framing, named.adds_usage, named.target) == ("sse", True, call.target)
    assert call.naming("m", "m", streams=False, adds_usage=False).framing == "single"
