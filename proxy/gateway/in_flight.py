"""How many requests of a kind a key has in flight, and that it has no more than it may: in this process."""

from __future__ import annotations

from proxy.errors import RateLimited, Violation
from proxy.tenants.keys import Tenant

FREE_CALLS_AT_ONCE = 50
QUESTIONS_AT_ONCE = 4
WAIT_MS = 1000
"""When a place will be free isn't known: nobody knows how long a call takes."""


class InFlight:
    """Places for requests that no limit counts. Nothing is kept of a key that has none in flight."""

    def __init__(self, at_most: int, what: str, metric: str, quota: str) -> None:
        """Of each key. `what` is as in "calls of free operations"; `metric` and `quota` are a Violation's words."""
        self._at_most = at_most
        self._what = what
        self._metric = metric
        self._quota = quota
        self._by_key: dict[str, int] = {}

    def begin(self, tenant: Tenant) -> None:
        """Takes a place. Raises RateLimited."""
        self.refuse_full(tenant)
        self._by_key[tenant.key_id] = self._by_key.get(tenant.key_id, 0) + 1

    def end(self, tenant: Tenant) -> None:
        """Gives it back."""
        if left := self._by_key.pop(tenant.key_id) - 1:
            self._by_key[tenant.key_id] = left

    def refuse_full(self, tenant: Tenant) -> None:
        """Raises RateLimited where the key has as many as it may."""
        if self._by_key.get(tenant.key_id, 0) >= self._at_most:
            dimensions = {"project": tenant.project, "key": tenant.key_id}
            raise RateLimited(
                f"This key has {self._at_most} {self._what} in flight, which is as many as a key may have at once.",
                (Violation(self._metric, self._quota, dimensions, self._at_most),),
                WAIT_MS,
            )


def free_calls() -> InFlight:
    """Calls of free operations: they take a connection each, and no limit counts them."""
    words = "calls of free operations", "weighbridge/free_concurrency", "ConcurrentFreeRequestsPerKey"
    return InFlight(FREE_CALLS_AT_ONCE, *words)


def questions() -> InFlight:
    """Questions about a key's account: each reads the ledger."""
    words = "questions about its account", "weighbridge/account_concurrency", "ConcurrentAccountRequestsPerKey"
    return InFlight(QUESTIONS_AT_ONCE, *words)
