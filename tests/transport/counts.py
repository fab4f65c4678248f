"""What a transport must not leave behind: sockets, tasks, objects."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from pathlib import Path
from typing import NamedTuple

from proxy.upstreams.connection import Connection
from proxy.upstreams.incoming import Incoming
from proxy.upstreams.round_trip import RoundTrip


class Counts(NamedTuple):
    """What of this process stays where something isn't closed."""

    sockets: int
    tasks: int


def counts() -> Counts:
    """Those of now; taken twice, they show what is left of what was done in between."""
    return Counts(_sockets(), len(asyncio.all_tasks()))


def objects() -> dict[str, int]:
    """Connections and calls in memory: whoever holds them, an exception's traceback included."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return {
        kind.__name__: sum(issubclass(there, kind) for there in kinds) for kind in (Connection, RoundTrip, Incoming)
    }


async def back_to(before: Counts) -> Counts:
    """The counts, once they are back to what they were or after two seconds: a loop closes its handles a turn later."""
    for _ in range(40):
        if (now := counts()) == before:
            break
        await asyncio.sleep(0.05)
    return now


def _sockets() -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found += descriptor.readlink().name.startswith("socket:")
    return found
