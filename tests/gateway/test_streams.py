"""Streams on their way down: whose usage chunk is taken out, and that errors are looked through all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import ProxyRefused, Reason
from proxy.gateway.streams import passing
from proxy.gemini import calls
from tests.gateway.test_upstream_errors import upstream

USAGE = b'data: {"choices":[],"usage":{"total_tokens":1}}\n\n'
HELLO = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
UPSTREAM = upstream()
CALL = calls.parse("POST", b"/v1beta/openai/chat/completions", b"")


class Head:
    status = 200

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.headers = list(headers)


def passed(stream: bytes, *headers: tuple[bytes, bytes], framing: str = "sse", adds_usage: bool = True) -> bytes:
    head: Any = Head(*headers)
    stream_down = passing(UPSTREAM, framing, head, replace(CALL, adds_usage=adds_usage))
    return b"".join(stream_down.feed(stream[at : at + 9]) for at in range(0, len(stream), 9)) + stream_down.finish()


def test_the_usage_is_taken_out_where_it_was_us_who_asked_for_it() -> None:
    assert passed(HELLO + USAGE) == HELLO
    assert passed(HELLO + USAGE, adds_usage=False) == HELLO + USAGE


def test_a_stream_that_is_compressed_against_our_will_is_relayed_as_it_is() -> None:
    assert passed(HELLO + USAGE, (b"content-encoding", b"gzip")) == HELLO + USAGE


def test_a_response_that_is_no_stream_is_left_alone() -> None:
    assert passed(HELLO + USAGE, framing="single") == HELLO + USAGE


@pytest.mark.parametrize("wrap", [b"%b", b"[%b]"])
def test_an_error_in_it_loses_our_key_and_a_refusal_of_that_is_ours(wrap: bytes) -> None:
    error = wrap % (b'{"error":{"message":"no %b","code":500}}' % UPSTREAM.secret)
    assert passed(HELLO + b"data: " + error + b"\n\n" + USAGE) == (
        HELLO + b"data: " + error.replace(UPSTREAM.secret, b"REDACTED") + b"\n\n"
    )
    bad = wrap % b'{"error":{"code":400,"message":"API key not valid. Please pass a valid API key."}}'
    with pytest.raises(ProxyRefused) as caught:
        passed(HELLO + b"data: " + bad + b"\n\n")
    assert caught.value.reason is Reason.UPSTREAM_CREDENTIAL_REFUSED
