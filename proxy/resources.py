"""What the process takes of its machine: file descriptors, and the garbage collector's time."""

from __future__ import annotations

import gc
import resource

UNLIMITED_FILES = 10_240
"""What to ask for where there is no hard limit: macOS grants no more."""

FILES_PER_CALL = 2
FILES_BESIDES = 100
"""Listeners, the ledger, the database, connections to Redis and to the control door."""


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
