"""Outcomes of a call, and three ways to go wrong: the caller erred, the proxy refused, the upstream failed."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any, NamedTuple


class Outcome(StrEnum):
    """How a metered call that reached an upstream ended: the ledger's word for it."""

    OK = "ok"
    CLIENT_GONE = "client_gone"
    """The client left early; the upstream was read to its end."""
    TRUNCATED = "truncated"
    """The upstream broke off, was not read to its end, or never answered a request that went up in full."""
    UPSTREAM_ERROR = "upstream_error"
    """The upstream answered 400 or more, or the request never went up in full. Costs nothing."""
    UNSETTLED = "unsettled"
    """The worker died in the call, was told to end before the call did, or broke down in it."""


class Reason(Enum):
    """Why a call was refused: a word of the contract, with the HTTP status and the google.rpc code it travels under."""

    API_KEY_MISSING = "API_KEY_MISSING", 403, "PERMISSION_DENIED"
    API_KEY_INVALID = "API_KEY_INVALID", 400, "INVALID_ARGUMENT"
    CREDENTIALS_CONFLICT = "CREDENTIALS_CONFLICT", 400, "INVALID_ARGUMENT"
    BAD_REQUEST = "BAD_REQUEST", 400, "INVALID_ARGUMENT"
    UNMETERABLE_PARAMETER = "UNMETERABLE_PARAMETER", 400, "INVALID_ARGUMENT"
    MODEL_NOT_ALLOWED = "MODEL_NOT_ALLOWED", 403, "PERMISSION_DENIED"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED", 403, "PERMISSION_DENIED"
    PROJECT_DISABLED = "PROJECT_DISABLED", 403, "PERMISSION_DENIED"
    RESOURCE_NOT_OWNED = "RESOURCE_NOT_OWNED", 403, "PERMISSION_DENIED"
    UNKNOWN_OPERATION = "UNKNOWN_OPERATION", 404, "NOT_FOUND"
    CALL_NOT_FOUND = "CALL_NOT_FOUND", 404, "NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND", 404, "NOT_FOUND"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE", 413, "INVALID_ARGUMENT"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT", 408, "INVALID_ARGUMENT"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE", 503, "UNAVAILABLE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE", 503, "UNAVAILABLE"
    DRAINING = "DRAINING", 503, "UNAVAILABLE"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS", 503, "UNAVAILABLE"
    LIMITER_UNAVAILABLE = "LIMITER_UNAVAILABLE", 503, "UNAVAILABLE"
    RATE_LIMITED = "RATE_LIMITED", 429, "RESOURCE_EXHAUSTED"
    BUDGET_HELD = "BUDGET_HELD", 429, "RESOURCE_EXHAUSTED"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED", 429, "RESOURCE_EXHAUSTED"
    MODEL_UNPRICED = "MODEL_UNPRICED", 403, "PERMISSION_DENIED"
    NO_UPSTREAM = "NO_UPSTREAM", 503, "UNAVAILABLE"
    UPSTREAM_CREDENTIAL_REFUSED = "UPSTREAM_CREDENTIAL_REFUSED", 502, "UNAVAILABLE"
    UPSTREAM_UNREACHABLE = "UPSTREAM_UNREACHABLE", 502, "UNAVAILABLE"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT", 504, "DEADLINE_EXCEEDED"

    def __init__(self, word: str, http: int, status: str) -> None:
        self.word = word
        self.http = http
        self.status = status


class Hint(NamedTuple):
    """What is told beside an answer, of a mistake that is known: proxy/gemini/hints.py."""

    name: str
    sentence: str


class Refusal(Exception):
    """A call that is answered by us. `message` is for the caller, in a sentence or two: what happened, what to do."""

    project = ""
    """Whose call it was, where that is known though its key isn't valid: for metrics and log alone."""

    def __init__(self, reason: Reason, message: str, hint: Hint | None = None, *, param: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.http = reason.http
        """The status that it travels under: the reason's own, but where HTTP has a more exact one."""
        self.hint = hint
        """What helps beyond the message."""
        self.param = param
        """Which of the request's parameters is wrong, where the dialect has a place for it (OpenAI's)."""


class CallerErred(Refusal):
    """The request is wrong, and would be wrong at any time."""


class ProxyRefused(Refusal):
    """The request may be right; we won't or can't serve it now, or not to this caller."""


class Violation(NamedTuple):
    """A limit that a call doesn't fit in, in the words of google.rpc.QuotaFailure."""

    metric: str
    id: str
    dimensions: dict[str, str]
    value: int | str


class RateLimited(ProxyRefused):
    """A call is over one limit or several, budgets among them. `wait_ms`: when it may come back; None where that would
    not help.

    The message says that, too, in Google's own words: clients that read it rather than RetryInfo look for them.
    """

    def __init__(
        self,
        message: str,
        violations: tuple[Violation, ...],
        wait_ms: int | None,
        reason: Reason = Reason.RATE_LIMITED,
    ) -> None:
        if wait_ms is not None:
            message = f"{message} Please retry in {wait_ms / 1000:.3f}s."
        super().__init__(reason, message)
        self.violations = violations
        self.wait_ms = wait_ms


class NoUpstream(ProxyRefused):
    """No upstream serves such calls, or all that do are out.

    `wait_ms`: when one may be back; None where that isn't known. `told` is an upstream's own 429 where each of them
    said so: Google's error object, with the time that is left.
    """

    def __init__(self, message: str, wait_ms: int | None = None, told: dict[str, Any] | None = None) -> None:
        super().__init__(Reason.NO_UPSTREAM, message)
        self.wait_ms = wait_ms
        self.told = told
        if told:
            self.http = 429


class Sent(Enum):
    """How much of a request had gone up when the upstream failed: whether it may have cost money hangs on it."""

    NOTHING = 0
    PART = 1
    WHOLE = 2


class UpstreamFailed(Refusal):
    """The upstream could not be reached, broke off, or took too long.

    Carried in `reason`: UPSTREAM_UNREACHABLE or UPSTREAM_TIMEOUT. `sent` says how much of the request was handed to
    the kernel. Raised before the response's head it can be answered; raised from the body it can only be passed on by
    breaking off.
    """

    def __init__(self, reason: Reason, message: str, sent: Sent) -> None:
        super().__init__(reason, message)
        self.sent = sent
