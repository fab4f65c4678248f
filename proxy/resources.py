"""What the process takes of its machine: ports, file descriptors, and the garbage collector's time."""

from __future__ import annotations

import errno
import gc
import resource
import socket

UNLIMITED_FILES = 10_240
"""What to ask for where there is no hard limit: macOS grants no more."""

FILES_PER_CALL = 2
FILES_BESIDES = 100
"""Listeners, the ledger, the database, connections to Redis and to the control door."""


class PortTaken(Exception):
    """An address of a door can't be had."""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises PortTaken with a sentence that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        held = error.errno == errno.EADDRINUSE
        raise PortTaken(
            f"Can't listen on {host}:{port}: {error.strerror}. "
            + ("Stop what holds it, or choose another port: " if held else "Choose another address: ")
            + "server.host and server.port, server.admin_host and server.admin_port."
        ) from error
    bound.setblocking(False)
    return bound


def allow_connections() -> None:
    """Takes as many file descriptors as the process may have: a call holds two.

    The soft limit, often 1,024, is there for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, UNLIMITED_FILES) if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_possible(wanted: int) -> int:
    """As many of them as there are file descriptors for: a call holds two, and other work some."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - FILES_BESIDES) // FILES_PER_CALL))


def keep_what_start_up_made() -> None:
    """Spares the collector a look at it in every turn; it is called once, before the doors open."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
