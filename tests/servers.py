"""Real servers for tests: an ASGI application behind uvicorn on a free port, in a thread or in the test's own loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp


def _server(app: ASGIApp, certificate: Path | None = None) -> uvicorn.Server:
    """Plain uvicorn as deployed: uvloop and httptools; its log stays out of pytest's."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        log_level="critical",
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
    )
    return uvicorn.Server(config)


def _door(host: str = "127.0.0.1") -> tuple[socket.socket, str]:
    door = socket.create_server((host, 0), backlog=2048)
    return door, f"http://{host}:{door.getsockname()[1]}"


@contextmanager
def running(app: ASGIApp, host: str = "127.0.0.1") -> Iterator[str]:
    """Serves the application in a thread with a loop of its own; gives its base URL. For tests of any kind."""
    door, base_url = _door(host)
    with serving_at(door, app):
        yield base_url


@contextmanager
def serving_at(door: socket.socket, app: ASGIApp, certificate: Path | None = None) -> Iterator[None]:
    """As `running`, at a door that is open; by TLS where there is a certificate, a file with its key."""
    server = _server(app, certificate)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="uvicorn", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server didn't stop"


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serves the application in the test's own loop; gives its base URL. For asynchronous tests only."""
    door, base_url = _door()
    server = _server(app)
    task = asyncio.get_running_loop().create_task(server._serve([door]))
    try:
        yield base_url
    finally:
        server.should_exit = server.force_exit = True
        await task
