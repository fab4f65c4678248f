"""References in bodies: every spelling that a JSON parser understands is seen, and nothing is decided by guess."""

from __future__ import annotations

import pytest

from proxy.errors import CallerErred, Reason
from proxy.gemini.references import camel, check_model, crosses, parse

HOSTS = frozenset({"gemini.example", "127.0.0.1", "::1"})


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/x.png",
        "http://example.com:8080/x.png?a=b#c",
        "HTTPS://EXAMPLE.com",
        "https://example.com/bücher/ü.png",
        "https://www.youtube.com/watch?v=abc",
        "https://youtu.be/abc",
        "gs://my_bucket/images/x.png",
        "https://storage.googleapis.com/bucket/files/x.png",
        "https://example.com/?u=https://generativelanguage.googleapis.com/v1beta/files/x",
        "https://example.com/v1beta/files/abc",
        "https://example.com?a=b",
        "https://example.com/@someone/x?by=@a",
        "https://[2001:db8::1]/x.png",
        "https://gemini.example.com/x.png",
    ],
)
def test_uris_that_surely_lead_elsewhere_cross(uri: str) -> None:
    assert crosses(uri, HOSTS)


@pytest.mark.parametrize(
    "uri",
    [
        "files/abc",
        "/v1beta/files/abc",
        "v1beta/files/abc",
        "//generativelanguage.googleapis.com/v1beta/files/abc",
        "https://generativelanguage.googleapis.com/v1beta/files/abc",
        "https://generativelanguage.googleapis.com",
        "https://generativelanguage.googleapis.com./v1beta/files/abc",
        "https://generativelanguage.googleapis.com:443/v1beta/files/abc",
        "https://GenerativeLanguage.GoogleAPIs.com/v1beta/files/abc",
        "https://content-generativelanguage.googleapis.com/v1beta/files/abc",
        "https://us-generativelanguage.mtls.googleapis.com/v1beta/files/abc",
        "https://example.com@generativelanguage.googleapis.com/v1beta/files/abc",
        "https://user:pass@example.com/x",
        "https://generativelanguage.googleapis.com\\@example.com/x",
        "https:\\\\generativelanguage.googleapis.com/v1beta/files/abc",
        "https://example.com\\x",
        "https://generativelanguage%2egoogleapis.com/v1beta/files/abc",
        "https://g%65nerativelanguage.googleapis.com/v1beta/files/abc",
        "https:generativelanguage.googleapis.com/v1beta/files/abc",
        "https:/generativelanguage.googleapis.com/v1beta/files/abc",
        "https:///generativelanguage.googleapis.com/v1beta/files/abc",
        " https://example.com/x",
        "https://example.com/x ",
        "https://example.com/a b",
        "https://exam\tple.com/x",
        "https://example.com/\nx",
        "https://example.com/\u00a0",
        "ht tps://example.com",
        "https://generativelanguage\uff0egoogleapis.com/v1beta/files/abc",
        "https://\uff47enerativelanguage.googleapis.com/v1beta/files/abc",
        "https://example.com:80:80/x",
        "https://.",
        "https://",
        "://x",
        "files:abc",
        "data:image/png;base64,AAAA",
        "s3://bucket/x",
        "files://x",
        "file://host/x",
        "https://a.b?@generativelanguage.googleapis.com/v1beta/files/x",
        "https://a.b#@generativelanguage.googleapis.com/v1beta/files/x",
        "https://a.b:1?x@generativelanguage.googleapis.com/v1beta/files/x",
        "https://gemini.example/v1beta/files/abc",
        "https://GEMINI.example.:8443/v1beta/files/abc",
        "http://127.0.0.1:9000/v1beta/files/abc",
        "http://[::1]:9000/v1beta/files/abc",
        "\ufeffhttps://example.com/x",
        "\x00https://example.com/x",
    ],
)
def test_uris_that_may_lead_to_the_upstream_or_can_not_be_told_do_not_cross(uri: str) -> None:
    assert not crosses(uri, HOSTS)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}{}",
        b"{} x",
        b"{'a': 1}",
        b"{a: 1}",
        b'{"a": 1,}',
        b'{"a": 01}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\n"}',
        b'{"a": "\\i"}',
        b'{"a": "\\x41"}',
        b'{"a": "\\u004"}',
        b'{"a": 1 /* */}',
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 1}',
        b'{"file_uri": null, "fileUri": null}',
        b'{"x": {"file_uri": null, "file\\u0055ri": null}}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 5000,
        b'"' + b"a" * (4 << 20) + b'"',
    ],
)
def test_what_is_not_strict_json_or_has_a_key_twice_is_refused(text: bytes) -> None:
    with pytest.raises(CallerErred, match="Send valid JSON") as refused:
        parse(text, HOSTS)
    assert refused.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    "text",
    [
        b'{"fileUri": "files/x"}',
        b'{"file_uri": "files\\/x"}',
        b'{"FILE_URI": "\\u0066iles/x"}',
        b'{"a": [[{"fileData": {"fileUri": ["files/x"]}}]]}',
        b'{"fileUri": [["files/x"]]}',
        b'{"fileUri": "https://gemini\\u002eexample/v1beta/files/x"}',
        b'{"cachedContent": "cachedContents/x"}',
        b'{"generateContentRequest": {"cached_content": "x"}}',
        b'{"tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/x"]}}]}',
        b'{"tools": [{"file_search": {"file_search_store_names": "fileSearchStores/x"}}]}',
    ],
)
def test_a_reference_to_what_the_upstream_holds_is_refused_wherever_it_stands(text: bytes) -> None:
    with pytest.raises(CallerErred, match="none that your project owns") as refused:
        parse(text, HOSTS)
    assert refused.value.reason is Reason.RESOURCE_NOT_OWNED


@pytest.mark.parametrize(
    "text",
    [
        b'{"fileUri": "https://example.com/x.png"}',
        b'{"fileUri": null, "cachedContent": "", "fileSearchStoreNames": []}',
        b'{"properties": {"fileUri": {"type": "STRING"}, "cachedContent": {"type": "STRING"}}}',
        b'{"text": "fileUri: files/x", "files/x": "files/x"}',
    ],
)
def test_what_refers_to_nothing_of_the_upstreams_is_taken(text: bytes) -> None:
    parse(text, HOSTS)


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        ("generateContent", {"model": "other"}),
        ("generateContent", {"mod_el": "other"}),
        ("generateContent", {"model": "models/models/m"}),
        ("generateContent", {"model": "tunedModels/m"}),
        ("generateContent", {"model": ["models/m"]}),
        ("embedContent", {"model": "models/M"}),
        ("batchEmbedContents", {"requests": [{"model": "models/m"}, {"model": "models/other"}]}),
        ("batchEmbedContents", {"requests": {"model": "models/other"}}),
        ("countTokens", {"generateContentRequest": {"model": "models/other"}}),
        ("countTokens", {"generate_content_request": {"model": "models/other"}}),
    ],
)
def test_another_model_than_the_paths_is_refused(operation: str, document: dict[str, object]) -> None:
    with pytest.raises(CallerErred, match="another model than the path, which says m") as refused:
        check_model(document, operation, "m")
    assert refused.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        ("generateContent", {"model": "m"}),
        ("embedContent", {"model": "models/m"}),
        ("embedContent", {"model": None}),
        ("batchEmbedContents", {"requests": [{"model": "models/m"}, {"content": {}}, 1]}),
        ("countTokens", {"generateContentRequest": {"model": "models/m"}}),
        ("generateContent", {"contents": [{"parts": [{"functionCall": {"args": {"model": "T"}}}]}]}),
        ("generateContent", [{"model": "other"}]),
    ],
)
def test_the_paths_model_with_or_without_its_prefix_is_taken(operation: str, document: object) -> None:
    check_model(document, operation, "m")  # type: ignore[arg-type]


def test_snake_case_is_folded_as_google_does_it() -> None:
    assert [camel(key) for key in ("file_uri", "fileUri", "a_b_c", "_x", "x_", "mimeType")] == [
        "fileUri",
        "fileUri",
        "aBC",
        "X",
        "x",
        "mimeType",
    ]
