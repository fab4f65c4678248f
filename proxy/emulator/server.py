"""Serves the emulator: a socket of its own, and uvicorn set so that it adds nothing to Google's headers."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. OSError where the address isn't to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def server(app: ASGIApp) -> uvicorn.Server:
    """A uvicorn server to be run with `run(sockets=[…])` or awaited with `serve(sockets=[…])`.

    Its log says nothing but errors; a response that is broken off on purpose is one of them.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            server_header=False,
            access_log=False,
            log_level="error",
            timeout_graceful_shutdown=1,
        )
    )
