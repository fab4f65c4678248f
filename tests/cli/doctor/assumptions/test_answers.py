"""Answers are read as the gateway reads them, whatever the network does."""

from __future__ import annotations

import gzip
import json

import httpx2
import pytest

from proxy.cli.doctor.assumptions import answers
from proxy.cli.doctor.assumptions.answers import Answer
from tests.cli.doctor.assumptions.contrary import AT, BOOK, CALLS, drawn, http, labels, said, sse, usage
from tests.scripted import says, scripted


def made(raw: bytes, name: str = "text") -> Answer:
    with scripted(says(raw)) as script, httpx2.Client() as client:
        return answers.make(CALLS[name], client, script.base_url, BOOK, lambda: AT)


def test_what_is_charged_is_what_the_gateway_would_charge() -> None:
    """docs/metering.md's figures for a picture: 1120 tokens of image, the rest text, by who answered."""
    spent = usage(2076, 1332, 137, candidatesTokensDetails=labels(IMAGE=1120))
    answer = made(http(drawn(spent) | {"modelVersion": "gemini-3.1-flash-image"}), "image")
    assert answer.quantities == {"input_text": 2076, "output_image": 1120, "output_text": 349}
    assert (answer.priced.cost, answer.priced.priced_as) == (69_285_000, "gemini-3.1-flash-image")


def test_the_tier_that_the_header_names_is_charged_where_the_usage_names_none() -> None:
    flex, standard = (made(http(said(usage()), 200, *more)) for more in (("x-gemini-service-tier: flex",), ()))
    assert flex.priced.cost is not None
    assert standard.priced.cost == 2 * flex.priced.cost


def test_a_streams_events_are_kept_apart() -> None:
    answer = made(http([said(usage(10, 1)), said(usage(10, 2))]), "stream")
    assert [json.loads(event)["usageMetadata"]["totalTokenCount"] for event in answer.documents] == [11, 12]
    assert answer.quantities == {"input_text": 10, "output_text": 2}


def test_an_answer_that_is_compressed_though_identity_was_asked_for_is_read() -> None:
    body = gzip.compress(json.dumps(said(usage())).encode())
    head = f"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    assert made(head + body).quantities == {"input_text": 10, "output_text": 5}


@pytest.mark.parametrize(
    ("raw", "status", "problem"),
    [
        (http({"error": {"message": "Slow\n down."}}, 429), 429, "Slow down."),
        (http({"error": "x"}, 500), 500, "no error of Google's"),
        (http({}, 302, "location: http://127.0.0.1:1/"), 302, "no error of Google's"),
        (b"HTTP/1.1 200 X\r\ncontent-length: 4\r\n\r\nhtml", 200, "an error in mid-stream, or no JSON"),
        (http({"error": {"code": 500}}), 200, "an error in mid-stream, or no JSON"),
        (b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nhtml", 0, ""),
    ],
)
def test_of_what_tells_nothing_it_is_said_why(raw: bytes, status: int, problem: str) -> None:
    answer = made(raw)
    assert (answer.status, bool(answer.problem), problem in answer.problem) == (status, True, True)
    assert answer.quantities == {}


def test_an_upstream_that_breaks_off_is_no_answer() -> None:
    with scripted(lambda connection: connection.close()) as script, httpx2.Client() as client:
        answer = answers.make(CALLS["text"], client, script.base_url, BOOK, lambda: AT)
    assert (answer.status, answer.problem != "") == (0, True)


def test_events_are_split_however_their_lines_end() -> None:
    body = sse([said(usage())]).replace(b"\r\n", b"\n")
    assert len(answers.read(CALLS["stream"], body, {}, BOOK, AT).documents) == 1
