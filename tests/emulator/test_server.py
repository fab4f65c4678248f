"""Serving: sockets and headers."""

from __future__ import annotations

import threading

import httpx2
import pytest

from proxy.emulator.app import create_app
from proxy.emulator.server import listen, server


def test_a_served_emulator_adds_no_server_header_of_its_own() -> None:
    door = listen("127.0.0.1", 0)
    serving = server(create_app())
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        answer = httpx2.get(f"http://127.0.0.1:{door.getsockname()[1]}/v1/models?key=emulator-key")
        assert answer.headers.get_list("server") == ["scaffolding on HTTPServer2"]
    finally:
        serving.should_exit = True
        thread.join()


def test_a_taken_port_is_an_error_at_once() -> None:
    with listen("127.0.0.1", 0) as door, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", door.getsockname()[1])
