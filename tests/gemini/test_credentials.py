"""Where a client's key may stand, and what goes up in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CallerErred, Reason
from proxy.gemini import calls, credentials, status
from proxy.gemini.credentials import client_key, upstream_credential

Headers = list[tuple[bytes, bytes]]


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([(b"x-goog-api-key", b"wb_1")], b""),
        ([(b"x-api-key", b"wb_1")], b"alt=sse"),
        ([(b"authorization", b"Bearer wb_1")], b""),
        ([(b"authorization", b"bearer   wb_1 ")], b""),
        ([(b"authorization", b"BEARER\twb_1")], b""),
        ([(b"host", b"h"), (b"accept", b"*/*")], b"key=wb_1"),
        ([], b"alt=sse&key=wb_1"),
        ([], b"%6bey=wb%5F1"),
        ([], b"$key=wb_1"),
        ([(b"x-goog-api-key", b"wb_1"), (b"authorization", b"Bearer wb_1")], b"key=wb_1&key=wb_1"),
        ([(b"x-goog-api-key", b""), (b"authorization", b"Bearer ")], b"key=wb_1"),
        ([(b"x-goog-api-key", b"wb_1")], b"key=&access_token="),
        ([(b"x-goog-api-key", b"wb_1")], b"access_token=wb_1"),
    ],
)
def test_a_key_is_found_wherever_it_may_stand(headers: Headers, query: bytes) -> None:
    assert client_key(headers, query) == "wb_1"


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([(b"x-goog-api-key", b"wb_1"), (b"x-goog-api-key", b"wb_2")], b""),
        ([(b"x-goog-api-key", b"wb_1"), (b"x-api-key", b"wb_2")], b""),
        ([(b"x-goog-api-key", b"wb_1"), (b"authorization", b"Bearer wb_2")], b""),
        ([(b"x-goog-api-key", b"wb_1")], b"key=wb_2"),
        ([(b"x-goog-api-key", b"wb_1")], b"k%65y=wb_2"),
        ([], b"key=wb_1&key=wb_2"),
        ([], b"key=wb_1&$key=wb_2"),
        ([(b"x-goog-api-key", b"wb_1")], b"access_token=ya29.x"),
        ([], b"oauth_token=ya29.x&key=wb_1"),
    ],
)
def test_two_credentials_that_differ_are_refused(headers: Headers, query: bytes) -> None:
    with pytest.raises(CallerErred) as caught:
        client_key(headers, query)
    assert caught.value.reason is Reason.CREDENTIALS_CONFLICT
    assert "wb_" not in caught.value.message


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([], b""),
        ([(b"accept", b"*/*")], b"alt=sse"),
        ([(b"x-goog-api-key", b" ")], b"key="),
        ([(b"authorization", b"Bearer")], b""),
        ([(b"authorization", b"")], b"pageToken=k"),
    ],
)
def test_a_request_without_a_key_is_told_so_in_googles_words(headers: Headers, query: bytes) -> None:
    with pytest.raises(CallerErred) as caught:
        client_key(headers, query)
    assert caught.value.reason is Reason.API_KEY_MISSING
    assert caught.value.message == status.API_KEY_MISSING


@pytest.mark.parametrize(
    ("headers", "query", "says"),
    [
        ([(b"authorization", b"Basic dTpw")], b"", "Bearer KEY"),
        ([(b"authorization", b"Token auth_tokens/x")], b"", "Bearer KEY"),
        ([(b"authorization", b"wb_1")], b"", "Bearer KEY"),
        ([], b"access_token=ya29.x", "OAuth"),
        ([], b"oauth%5Ftoken=ya29.x", "OAuth"),
    ],
)
def test_what_can_not_be_a_key_is_named(headers: Headers, query: bytes, says: str) -> None:
    with pytest.raises(CallerErred) as caught:
        client_key(headers, query)
    assert caught.value.reason is Reason.API_KEY_INVALID
    assert says in caught.value.message
    assert "wb_1" not in caught.value.message
    assert "ya29" not in caught.value.message


def test_the_key_goes_up_in_exactly_one_header() -> None:
    assert upstream_credential("x-goog-api-key", "AIza1") == (b"x-goog-api-key", b"AIza1")
    assert upstream_credential("bearer", "AQ.1") == (b"authorization", b"Bearer AQ.1")


@pytest.mark.parametrize(
    ("auth", "key"),
    [("x-goog-api-key", "AIza1\n"), ("bearer", ""), ("bearer", "A B"), ("bearer", "Aé"), ("basic", "AIza1")],
)
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(auth: str, key: str) -> None:
    with pytest.raises(ValueError, match="upstream") as caught:
        upstream_credential(auth, key)
    assert "AIza1" not in str(caught.value)


def test_every_parameter_that_is_a_credential_can_be_told_by_its_k() -> None:
    """The short cut by which most queries are never split."""
    for name in credentials.CREDENTIAL_PARAMETERS:
        assert credentials.may_hold_credential(name + b"=x")


@given(query=st.binary(max_size=80))
def test_any_query_that_is_parsed_gives_a_key_or_a_refusal(query: bytes) -> None:
    try:
        calls.parse("POST", b"/v1/models/g:generateContent", query)
        key = client_key([], query)
    except CallerErred:
        return
    assert key
