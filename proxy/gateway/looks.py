"""Whose turn it is to look at a large body: few at once, and of each project one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

AT_ONCE = 2
"""Looks that are taken at once, each in a thread. They take turns with the event loop for the interpreter: the more
there are, the longer every call waits."""


class Looks:
    """Turns at looking. Of the bodies of one project one is in line, so nobody waits for all that another has sent."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(AT_ONCE)
        self._by_project: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, project: str) -> AsyncGenerator[None]:
        """Waits for the project's turn, which lasts as long as the block."""
        own = self._by_project.setdefault(project, asyncio.Lock())
        async with own, self._all:
            yield
