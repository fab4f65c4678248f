"""A connection to one of a host's addresses: looked up each time, tried side by side, those that failed last."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from itertools import zip_longest

from proxy.upstreams.connection import Connection

STAGGER_S = 0.25
"""How long an address may take before the next one is tried beside it (RFC 8305 §5)."""
AVOID_S = 60.0
"""For how long an address that failed, or was overtaken by a later one, is tried last."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""From a host's name to its addresses, numeric, the preferred ones first. Raises OSError."""


async def system_resolve(host: str) -> list[str]:
    """What the system says, in its own order of preference (RFC 6724); an address is its own."""
    with contextlib.suppress(ValueError):
        ip_address(host)
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # A fourth part is an IPv6 address's scope: the interface that a link-local one is to be reached by.
    return [f"{at[0]}%{at[3]}" if len(at) == 4 and at[3] else str(at[0]) for *_, at in found]


class Dialer:
    """Connects to one host and port. It keeps no address: only which of them didn't answer, and that for a minute."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        resolve: Resolve | None = None,
        stagger_s: float = STAGGER_S,
        avoid_s: float = AVOID_S,
    ) -> None:
        self.host, self.port = host, port
        self._resolve = resolve or system_resolve
        self._stagger_s = stagger_s
        self._avoid_s = avoid_s
        self._loop = asyncio.get_running_loop()
        self._avoided: dict[str, float] = {}

    async def dial(self, make: Callable[[], Connection]) -> tuple[Connection, str]:
        """The first connection that stands, and its address. Raises OSError where none does.

        An address is tried when the one before it has failed, or hasn't answered for `stagger_s`.
        """
        left = iter(self._in_order(await self._resolve(self.host)))
        attempts: dict[asyncio.Task[Connection], str] = {}
        failed: list[BaseException] = []
        try:
            address = next(left, None)
            while address is not None or attempts:
                if address is not None:
                    attempts[self._loop.create_task(self._connect(address, make))] = address
                    address = next(left, None)
                patience = None if address is None else self._stagger_s
                await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if (winner := self._first(attempts, failed)) is not None:
                    return winner
            raise _of_all(failed)
        finally:
            failed.clear()  # an error knows its frames, and this one knows the errors: a cycle
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(_abort)

    def avoid(self, address: str) -> None:
        """It didn't answer, or took a connection that came to nothing: others are tried before it for a while."""
        self._avoided[address] = self._loop.time() + self._avoid_s

    def _in_order(self, addresses: Iterable[str]) -> list[str]:
        """Both families in turn, so that one that leads nowhere costs one step only; those to avoid at the end."""
        now = self._loop.time()
        self._avoided = {address: until for address, until in self._avoided.items() if until > now}
        once = list(dict.fromkeys(addresses))
        first = [address for address in once if (":" in address) == (":" in once[0])]
        other = [address for address in once if address not in first]
        mixed = [address for pair in zip_longest(first, other) for address in pair if address is not None]
        return sorted(mixed, key=self._avoided.__contains__)

    async def _connect(self, address: str, make: Callable[[], Connection]) -> Connection:
        return (await self._loop.create_connection(make, address, self.port))[1]

    def _first(
        self, attempts: dict[asyncio.Task[Connection], str], failed: list[BaseException]
    ) -> tuple[Connection, str] | None:
        """The first connection that stands, if one does. Takes out the attempts that have ended."""
        slower = []
        for attempt, address in tuple(attempts.items()):
            if not attempt.done():
                slower.append(address)
                continue
            del attempts[attempt]
            if (error := attempt.exception()) is None:
                self._avoided.pop(address, None)
                for overtaken in slower:
                    self.avoid(overtaken)
                return attempt.result(), address
            failed.append(error)
            self.avoid(address)
        return None


def _of_all(failed: list[BaseException]) -> BaseException:
    """The error of every attempt, where they are all of one kind."""
    kinds = {getattr(error, "errno", None) for error in failed}
    return failed[0] if len(kinds) == 1 else OSError()


def _abort(attempt: asyncio.Task[Connection]) -> None:
    """An attempt that nobody waits for any more may have come to its end all the same."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()
