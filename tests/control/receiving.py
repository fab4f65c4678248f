"""A receiver of webhooks, as a real server; and what is told it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.scripted import Received, Scripted, scripted

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TAKEN = b"HTTP/1.1 204 X\r\ncontent-length: 0\r\n\r\n"


def status(number: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {number} X", "content-length: 0", *headers, "", ""]).encode()


@contextmanager
def receiver(answer: Callable[[dict[str, Any]], bytes | None] = lambda _: TAKEN) -> Iterator[Scripted]:
    """Answers each event with these bytes; None closes the connection without an answer, as if it had been lost."""
    with scripted() as script:

        def converse(connection: socket.socket) -> None:
            raw = answer(json.loads(script.received[-1].body))
            if raw is None:
                connection.shutdown(socket.SHUT_RDWR)
            else:
                connection.sendall(raw)

        script.answer = converse
        yield script


def told(script: Scripted) -> list[dict[str, Any]]:
    """The events, in the order in which they came."""
    return [json.loads(request.body) for request in script.received]


def thresholds(script: Scripted) -> list[int]:
    return [event["data"]["threshold"] for event in told(script)]


def header(request: Received, name: str) -> str:
    (value,) = (value for field, value in request.headers if field == name.encode())
    return value.decode()
