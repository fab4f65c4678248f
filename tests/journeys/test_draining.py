"""What a client sees of a server that ends, whatever it does with its connection at that moment."""

from __future__ import annotations

import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2

from tests.journeys.test_reload import logged
from tests.journeys.test_serving import WHOLE, ended, tell, under_way
from tests.journeys.watching import TEXT, body, connect, refuses, until
from tests.scripted import scripted
from tests.stand import weighbridge


def request(key: str) -> bytes:
    """A call as it goes over the wire."""
    content = json.dumps(body("hi")).encode()
    head = (
        f"POST {TEXT}generateContent HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {key}\r\ncontent-type: application/json\r\n"
    )
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_clients_that_hold_on_to_their_connections_are_answered_or_see_its_end(tmp_path: Path) -> None:
    """One has sent three requests ahead, one is idle, one is in the midst of a head, one calls within the lame duck."""
    go = threading.Event()

    def answer_when_told(connection: Any) -> None:
        go.wait()
        connection.sendall(WHOLE)

    settings = {"server": {"lame_duck_seconds": 4}}
    with scripted(answer_when_told) as script, weighbridge(tmp_path, script.base_url, settings) as stand:
        asked = request(stand.key())
        with (
            connect(stand.base_url) as ahead,
            connect(stand.base_url) as idle,
            connect(stand.base_url) as begun,
            connect(stand.base_url) as late,
        ):
            ahead.sendall(asked * 3)
            begun.sendall(asked[:30])
            under_way(script, 1)
            idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"connection: close" not in idle.recv(1 << 16)
            tell(stand, signal.SIGTERM)
            until(lambda: httpx2.get(f"{stand.base_url}/readyz").status_code == 503, "it isn't ready")
            late.sendall(asked)
            under_way(script, 2)
            until(lambda: logged(stand, "closing"), "the door closes")
            assert rest(idle) == b"", "it ends"
            assert rest(begun) == b"", "it ends"
            until(lambda: refuses(stand.base_url), "nobody is let in any more")
            go.set()
            _answered(rest(late), [b"200"])
            _answered(rest(ahead), [b"200", b"503", b"503"])
        assert ended(stand) == 0
        assert [record.outcome for record in stand.records()] == ["ok", "ok"]


def _answered(raw: bytes, statuses: list[bytes]) -> None:
    answers = raw.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == statuses
    assert [b"connection: close\r\n" in answer for answer in answers] == [False] * (len(answers) - 1) + [True]
    for answer in answers[1:]:
        assert b"x-weighbridge-refused: DRAINING\r\n" in answer
