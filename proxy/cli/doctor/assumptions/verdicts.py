"""What can be said of an assumption that was tried, and the answers that it is said of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from proxy.billing.prices import PriceBook
from proxy.cli.doctor.assumptions.answers import Answer
from proxy.gemini.usage import Usage


class Held(StrEnum):
    HELD = "held"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It was tried, and the answers don't tell."""
    UNTRIED = "untried"
    """No answer can tell: only Google's bill does."""


Verdict = tuple[Held, str]
"""And what was seen."""


class Answers(NamedTuple):
    """Those that there is something to learn from, by the call's name; and what they were priced by."""

    of: Mapping[str, Answer]
    book: PriceBook
    at: int
    """When they were asked, in Unix microseconds."""

    def metered(self) -> Iterator[tuple[str, Answer]]:
        return ((name, answer) for name, answer in self.of.items() if answer.call.operation != "countTokens")

    def used(self) -> Iterator[tuple[str, Answer, Usage]]:
        """Each metered call whose answer had a usage."""
        return ((name, answer, answer.usage) for name, answer in self.metered() if answer.usage is not None)


Judge = Callable[[Answers], Verdict]


def verdict(failed: Collection[str], held: Collection[str], lacking: str) -> Verdict:
    """Failed where anything speaks against it, held where something speaks for it, else unknown: `lacking`."""
    if failed:
        return Held.FAILED, "; ".join(failed)
    if held:
        return Held.HELD, "; ".join(held)
    return Held.UNKNOWN, lacking
