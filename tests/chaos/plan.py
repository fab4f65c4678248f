"""What is called: one call after another, of all kinds, the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.chaos import tenants
from tests.chaos.calls import Call
from tests.chaos.kinds import drawn


@dataclass
class Calls:
    """So many calls. Those that were drawn yet are known by their prints and by their numbers, without their bodies."""

    seed: int
    count: int
    by_print: dict[tuple[str, int], Call] = field(default_factory=dict)
    by_number: dict[int, Call] = field(default_factory=dict)
    _of_key: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[Call]:
        for number in range(1, self.count + 1):
            yield self._draw(number)

    def _draw(self, number: int) -> Call:
        chance = random.Random(f"{self.seed} {number}")
        key = tenants.draw(chance)
        call = drawn(number, key, self._of_key[key], chance)
        self._of_key[key] += 1
        if call.metered:
            assert call.print not in self.by_print, "two calls look alike"
            self.by_print[call.print] = replace(call, body=b"")
        self.by_number[number] = replace(call, body=b"")
        return call
