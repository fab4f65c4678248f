"""What the process takes of its machine: file descriptors, memory that is free again, the collector's time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource

UNLIMITED_FILES = 10_240
"""What to ask for where there is no hard limit: macOS grants no more."""
KEPT_FREE = 64 << 20
"""Bytes of freed memory that the C library keeps."""
LARGEST_KEPT = 32 << 20
"""Bytes of one allocation up to which they are kept: glibc takes no larger bound."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def allow_connections() -> None:
    """Takes as many file descriptors as the process may have: a call holds two.

    The soft limit, often 1,024, is there for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, UNLIMITED_FILES) if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def keep_freed_memory() -> None:
    """Has glibc keep some of what is freed (mallopt(3)); other C libraries do as they do.

    Given back at once, and asked for anew, the memory of an upload of 8 MB takes 1,600 page faults, which are 4 ms.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_FREE)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)


def keep_what_start_up_made() -> None:
    """Spares the collector a look at it in every turn; it is called once, before the doors open."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
