"""systemd hears that a server serves when it does, and not before."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.systemd import tell_ready
from tests.stand import Weighbridge

PATIENCE_S = 30


@pytest.fixture(params=["a path", "an abstract name"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """What systemd has, and how its unit's environment names it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(PATIENCE_S)
        named = path if request.param == "a path" else f"@{path}"
        made.bind(named.replace("@", "\0"))
        yield made, named


def test_a_server_that_serves_says_so(listener: tuple[socket.socket, str], upstream: str, tmp_path: Path) -> None:
    """After its doors are open, once."""
    heard, named = listener
    stand = Weighbridge(tmp_path, upstream, environment={"NOTIFY_SOCKET": named})
    stand.spawn()
    try:
        assert heard.recv(100) == b"READY=1"
        stand.started()  # the line stands there by now
        heard.setblocking(False)
        with pytest.raises(BlockingIOError):
            heard.recv(100)
    finally:
        stand.close()


def test_nobody_is_told_where_nobody_asked() -> None:
    tell_ready({})


def test_who_asked_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tell_ready({"NOTIFY_SOCKET": str(tmp_path / "gone")})
