"""What crosses of the headers, both ways, and which bodies are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CallerErred, Reason
from proxy.gemini.headers import coding, down, require_json, tell_of_events, up

KEY = b"wb_the-clients-own"
IDENTITY = (b"accept-encoding", b"identity")


def test_what_an_sdk_sends_crosses_in_order_but_for_what_is_ours_to_set() -> None:
    crosses = [
        (b"accept", b"*/*"),
        (b"user-agent", b"google-genai-sdk/3.4.0 gl-python/3.11.7"),
        (b"x-goog-api-client", b"google-genai-sdk/3.4.0 gl-python/3.11.7"),
        (b"content-type", b"application/json"),
        (b"x-server-timeout", b"300"),
        (b"api-revision", b"2026-05-20"),
        (b"x-unknown", b"a"),
        (b"x-unknown", b"b"),
    ]
    stays = [
        (b"host", b"127.0.0.1:8080"),
        (b"accept-encoding", b"gzip, deflate, br"),
        (b"connection", b"keep-alive"),
        (b"x-goog-api-key", b"wb_1"),
        (b"content-length", b"12"),
    ]
    assert up(stays + crosses, KEY) == [IDENTITY, *crosses]


@pytest.mark.parametrize(
    "name",
    [
        b"authorization", b"x-goog-api-key", b"x-api-key", b"host", b"cookie", b"x-goog-user-project",
        b"openai-organization", b"openai-project", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip",
        b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"content-length", b"expect", b"x-weighbridge-request-id",
    ],
)  # fmt: skip
def test_a_header_that_stays_with_us_does_not_go_up(name: bytes) -> None:
    assert up([(name, b"value"), (b"accept", b"*/*")], KEY) == [IDENTITY, (b"accept", b"*/*")]


def test_identity_is_asked_for_even_of_a_client_that_did_not_say() -> None:
    assert up([], KEY) == [IDENTITY]
    assert up([(b"accept-encoding", b"gzip"), (b"accept-encoding", b"br")], KEY) == [IDENTITY]


def test_what_connection_names_stays_and_what_is_ours_can_not_be_named_away() -> None:
    headers = [
        (b"connection", b"X-Hop, accept-encoding ,close"),
        (b"x-hop", b"1"),
        (b"connection", b"x-two"),
        (b"x-two", b"2"),
    ]
    assert up(headers, KEY) == [IDENTITY]


@pytest.mark.parametrize(
    "name",
    [
        b"x-goog-fieldmask",
        b"x-http-method-override",
        b"x-goog-encode-response-if-executable",
        b"x-method-override",
        b"range",
    ],
)
def test_a_header_that_could_hide_the_usage_is_refused(name: bytes) -> None:
    for headers in ([(name, b"x")], [(b"connection", name), (name, b"x")], [(name, b"")]):
        with pytest.raises(CallerErred) as caught:
            up(headers, KEY)
        assert caught.value.reason is Reason.UNMETERABLE_PARAMETER
        assert name.decode() in caught.value.message


def test_what_google_answers_comes_down_but_for_what_is_its_own_hop() -> None:
    crosses = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"vary", b"Origin, X-Origin, Referer"),
        (b"server", b"scaffolding on HTTPServer2"),
        (b"server-timing", b"gfet4t7; dur=1200"),
        (b"x-gemini-service-tier", b"standard"),
        (b"content-length", b"12"),
        (b"content-encoding", b"gzip"),
    ]
    stays = [
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close, x-hop"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"trailer", b"x"),
        (b"set-cookie", b"NID=1"),
        (b"alt-svc", b'h3=":443"'),
        (b"access-control-allow-origin", b"*"),
        (b"x-weighbridge-request-id", b"upstream's"),
        (b"x-echo", b"key AIza1 was sent"),
    ]
    assert down(stays + crosses, b"AIza1") == crosses


@pytest.mark.parametrize("place", [0, 1, 2])
def test_only_the_headers_that_hold_the_secret_are_dropped(place: int) -> None:
    headers = [(b"x-a", b"A"), (b"x-b", b"Iza1"), (b"x-c", b"AIza")]
    kept = headers.copy()
    assert down(headers, b"AIza1") == kept, "a secret in two pieces is none"
    headers.insert(place, (b"x-echo", b"key=AIza1&"))
    assert down(headers, b"AIza1") == kept


def test_without_a_secret_nothing_is_taken_for_one() -> None:
    assert down([(b"date", b"now")], b"") == [(b"date", b"now")]


FIELDS = st.tuples(
    st.sampled_from([b"accept", b"connection", b"host", b"x-a", b"x-b", b"authorization", b"set-cookie"]),
    st.sampled_from([b"x-a", b"x-b, close", b"keep-alive", b",,", b"SECRET", b""]),
)


@given(headers=st.lists(FIELDS, max_size=8))
def test_nothing_is_added_reordered_or_changed(headers: list[tuple[bytes, bytes]]) -> None:
    for kept in (up(headers, KEY)[1:], down(headers, b"SECRET")):
        rest = iter(headers)
        assert all(field in rest for field in kept), "a subsequence of what came"
    assert not any(b"SECRET" in value for _, value in down(headers, b"SECRET"))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"application/json")],
        [(b"content-type", b"application/json; charset=UTF-8")],
        [(b"content-type", b' Application/JSON;charset="utf-8" ')],
        [(b"content-type", b"application/json"), (b"content-encoding", b"identity")],
    ],
)
def test_json_in_utf_8_is_taken_named_or_not(headers: list[tuple[bytes, bytes]]) -> None:
    require_json(headers)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([(b"content-type", b"application/x-www-form-urlencoded")], "-H 'Content-Type: application/json'"),
        ([(b"content-type", b"application/json; charset=utf-16")], "UTF-8"),
        ([(b"content-type", b"application/json;enum-encoding=int")], "without other parameters"),
        ([(b"content-type", b"application/x-protobuf")], "must be JSON"),
        ([(b"content-type", b"application/json+protobuf")], "must be JSON"),
        ([(b"content-type", b"multipart/form-data; boundary=x")], "must be JSON"),
        ([(b"content-type", b"text/plain")], "must be JSON"),
        ([(b"content-type", b"")], "must be JSON"),
        ([(b"content-type", b"application/json")] * 2, "more than once"),
        ([(b"content-encoding", b"gzip")], "compressed"),
        ([(b"content-encoding", b"identity"), (b"content-encoding", b"br")], "compressed"),
    ],
)
def test_any_other_body_is_refused_with_what_to_send(headers: list[tuple[bytes, bytes]], says: str) -> None:
    with pytest.raises(CallerErred) as caught:
        require_json(headers)
    assert caught.value.reason is Reason.BAD_REQUEST
    assert says in caught.value.message


@pytest.mark.parametrize("name", [b"referer", b"x_goog_api_key", b"x-anything"])
def test_the_clients_key_does_not_go_up_in_whatever_header(name: bytes) -> None:
    assert up([(name, b"see " + KEY), (b"x-mine", b"1")], KEY) == [IDENTITY, (b"x-mine", b"1")]


def test_an_accept_of_protocol_buffers_is_refused() -> None:
    with pytest.raises(CallerErred) as refused:
        up([(b"accept", b"application/x-protobuf")], KEY)
    assert refused.value.reason is Reason.UNMETERABLE_PARAMETER


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8", True),
        (b"application/json", False),
        (b"text/event", False),
    ],
)
def test_a_response_tells_of_events_by_its_content_type(said: bytes, told: bool) -> None:
    assert tell_of_events([(b"date", b"x"), (b"content-type", said)]) is told


def test_a_coding_may_stand_in_several_headers() -> None:
    """They are one list: what was coded twice isn't read as if it were coded once."""
    assert coding([(b"content-type", b"x")]) == b""
    assert coding([(b"content-encoding", b"gzip"), (b"content-encoding", b"gzip")]) == b"gzip, gzip"
