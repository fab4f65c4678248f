"""However a response is mutated, it is read as h11 reads it or more strictly for a known reason, at any cuts."""

from __future__ import annotations

import collections
import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.proof import WHOLE, Proof, sized
from tests.transport.mutations import GRAMMAR, METHODS, mutated
from tests.transport.reading import SAME, SOONER, STRICTER, by_h11, by_us, by_us_bytewise, difference
from tests.transport.strictness import reasons

# make prove ARGS="-k mutated" with WEIGHBRIDGE_FUZZ_SEED=… runs the cases of a run before this one again.
SEED = int(os.environ.get("WEIGHBRIDGE_FUZZ_SEED") or (random.randrange(2**32) if WHOLE else 1))


def compare(wire: bytes, method: bytes, cuts: list[int]) -> str:
    """How our reading differs from h11's; fails where it may not."""
    ours, theirs = by_us_bytewise(wire, method), by_h11(wire, method)
    for pieces in ([], cuts):
        assert by_us(wire, method, pieces)._replace(length=ours.length) == ours, (wire, method, pieces)
    how = difference(ours, theirs)
    assert how in (SAME, SOONER) or (how == STRICTER and reasons(wire)), (how, wire, method, ours, theirs)
    return f"{how}: {ours.ending}"


def test_mutated_responses_are_read_as_h11_does_or_more_strictly(proof: Proof) -> None:
    chance, found = random.Random(SEED), collections.Counter[str]()
    print(f"WEIGHBRIDGE_FUZZ_SEED={SEED}")
    cases = sized(5_000, 2_500_000)
    for _ in range(cases):
        wire, method = mutated(chance)
        cuts = sorted(chance.randint(0, len(wire)) for _ in range(chance.randint(0, 3)))
        found[compare(wire, method, cuts)] += 1
    assert found["the same: complete"] > cases // 20
    proof(cases=cases, seed=SEED, **{how.replace(" ", "_").replace(":", ""): count for how, count in found.items()})


def test_responses_of_a_slipping_grammar_are_read_as_h11_does_or_more_strictly(proof: Proof) -> None:
    found = collections.Counter[str]()

    @settings(max_examples=sized(300, 100_000), derandomize=not WHOLE, deadline=None, database=None, print_blob=True)
    @given(GRAMMAR, st.sampled_from(METHODS), st.lists(st.integers(0, 300), max_size=3))
    def check(wire: bytes, method: bytes, cuts: list[int]) -> None:
        found[compare(wire, method, sorted(min(cut, len(wire)) for cut in cuts))] += 1

    check()
    proof(**{how.replace(" ", "_").replace(":", ""): count for how, count in found.items()})
