"""Refusals that Redis gave lately: who comes again at once is refused without asking it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from proxy.limits.interface import Hold, Over

LONGEST_MS = 5_000
"""How long one is remembered at most: others may give back what they took."""
MOST = 10_000


class _Refusal(NamedTuple):
    over: Over
    fits_at: int | None
    forgotten_at: int


class Refusals:
    """Of `rpm` and `rpd`, of which every call takes the same, and of money that is spent to the end.

    Times are milliseconds of this machine's clock.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Refusal] = {}

    def note(self, now_ms: int, day: str, refused: Iterable[Over]) -> None:
        for over in refused:
            spent = over.counter.kind in ("usd", "usd_per_10min") and over.used - over.held >= over.counter.value
            if not spent and over.counter.kind not in ("rpm", "rpd"):
                continue
            if len(self._known) >= MOST:
                self._known.clear()
            fits_at = None if over.wait_ms is None else now_ms + over.wait_ms
            forgotten_at = now_ms + LONGEST_MS if fits_at is None else min(fits_at, now_ms + LONGEST_MS)
            known = over._replace(amount=1) if spent else over  # no call fits, whatever it takes
            self._known[over.counter.name, day] = _Refusal(known, fits_at, forgotten_at)

    def of(self, now_ms: int, day: str, holds: Iterable[Hold]) -> tuple[Over, ...]:
        """Which holds of a call were refused so lately that they would be again."""
        if not self._known:
            return ()
        found = []
        for counter, amount in holds:
            known = self._known.get((counter.name, day))
            if known is None:
                continue
            over = known.over
            if known.forgotten_at <= now_ms or over.counter.value != counter.value:
                del self._known[counter.name, day]
            elif amount >= over.amount:
                wait_ms = None if known.fits_at is None else known.fits_at - now_ms
                found.append(Over(counter, over.used, amount, wait_ms, over.held))
        return tuple(found)
