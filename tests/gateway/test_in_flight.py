"""Places for requests that no limit counts: so many for each key."""

from __future__ import annotations

import pytest

from proxy.errors import RateLimited, Violation
from proxy.gateway.in_flight import FREE_CALLS_AT_ONCE, QUESTIONS_AT_ONCE, InFlight, free_calls, questions
from proxy.tenants.keys import Tenant

ALICE, BOB = (Tenant("alice", key_id, "test") for key_id in ("key_1", "key_2"))


@pytest.mark.parametrize(
    ("places", "at_most", "said", "metric", "quota"),
    [
        (free_calls(), FREE_CALLS_AT_ONCE, "calls of free operations", "free", "ConcurrentFreeRequestsPerKey"),
        (questions(), QUESTIONS_AT_ONCE, "questions about its account", "account", "ConcurrentAccountRequestsPerKey"),
    ],
    ids=["free calls", "questions"],
)
def test_a_key_has_so_many_in_flight_and_no_more(
    places: InFlight, at_most: int, said: str, metric: str, quota: str
) -> None:
    """Another key's aren't in its way; one that ends makes room; and nothing is kept of them."""
    for _ in range(at_most):
        places.begin(ALICE)
    for refused in (places.begin, places.refuse_full):
        with pytest.raises(RateLimited) as refusal:
            refused(ALICE)
    assert refusal.value.message == (
        f"This key has {at_most} {said} in flight, which is as many as a key may have at once. Please retry in 1.000s."
    )
    violation = Violation(f"weighbridge/{metric}_concurrency", quota, {"project": "alice", "key": "key_1"}, at_most)
    assert (refusal.value.violations, refusal.value.wait_ms) == ((violation,), 1000)
    places.begin(BOB)
    places.end(ALICE)
    places.begin(ALICE)
    for _ in range(at_most):
        places.end(ALICE)
    places.end(BOB)
    assert places._by_key == {}
