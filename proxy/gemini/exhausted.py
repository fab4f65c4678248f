"""What a 429 of Google's says: which quota is used up, of one model or of all, and when to come back."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

SPENT_S = 60.0
"""After a spend limit, which counts over a rolling ten minutes: room comes back bit by bit."""
DEPLETED_S = 600.0
"""After prepaid credit is used up: somebody has to pay first."""
UNTOLD_S = 30.0
"""After a 429 that doesn't say when to come back."""
LONGEST_S = 600.0
"""The longest wait that is believed, but for a day's quota."""
TOLD_BYTES, TOLD_DEPTH = 16 * 1024, 200
"""Google's are of 2 KB, with some 20 brackets. What has more is not told again: each caller who asks meanwhile would
have it written anew, and writing recurses."""

# https://ai.google.dev/gemini-api/docs/rate-limits: these come without details.
SPENT = ("spend-based rate limit",)
DEPLETED = ("credits are depleted", "monthly spending cap")

_DELAY = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,9})?)s")
_RETRY_IN = re.compile(r"(?i)(please retry in )(?:[0-9.]+(?:h|ms?|s))+")


class Exhausted(NamedTuple):
    """A quota that is used up."""

    seconds: float
    """When to come back; a day's quota is back at midnight in Los Angeles instead."""
    daily: bool = False
    all_models: bool = False
    """It isn't one model's."""
    error: dict[str, Any] | None = None
    """The error object; None where there is none of Google's shape and size."""

    def told_again(self, seconds: float) -> dict[str, Any] | None:
        """The error as Google would tell it now, when so much of the wait is left."""
        if self.error is None:
            return None
        error, delay = dict(self.error), f"{max(seconds, 0.001):.3f}s"
        if isinstance(message := error.get("message"), str):
            error["message"] = _RETRY_IN.sub(rf"\g<1>{delay}", message)
        if isinstance(details := error.get("details"), list):
            error["details"] = [
                {**one, "retryDelay": delay} if isinstance(one, dict) and "retryDelay" in one else one
                for one in details
            ]
        return error


def read(body: bytes) -> Exhausted:
    """Reads the body of a 429, whatever it is. Raises nothing.

    A wait that is negative, malformed or none at all is taken for UNTOLD_S, one over LONGEST_S for that: Google's own
    minute windows are shorter, and one call then finds out.
    """
    error = error_of(body)
    if error is None:
        return Exhausted(UNTOLD_S)
    found = _found(error)
    told = len(body) <= TOLD_BYTES and shallow(str(body, "latin-1"))
    return found if told else found._replace(error=None)


def shallow(text: str) -> bool:
    """Whether a JSON text can't be nested so deeply that it can't be written again."""
    return text.count("{") + text.count("[") <= TOLD_DEPTH


def _found(error: dict[str, Any]) -> Exhausted:
    daily = is_daily(error)
    delay = delay_of(error)
    if delay is None:
        return _by_its_words(error)._replace(daily=daily)
    return Exhausted(min(delay, LONGEST_S), daily, error=error)


def _by_its_words(error: dict[str, Any]) -> Exhausted:
    if says(error, SPENT):
        return Exhausted(SPENT_S, all_models=True, error=error)
    if says(error, DEPLETED):
        return Exhausted(DEPLETED_S, all_models=True, error=error)
    return Exhausted(UNTOLD_S, error=error)


def says(error: dict[str, Any], words: tuple[str, ...]) -> bool:
    """Whether its message has one of these in it, which are in small letters."""
    message = error.get("message")
    said = message.lower() if isinstance(message, str) else ""
    return any(one in said for one in words)


def error_of(body: bytes) -> dict[str, Any] | None:
    """The `error` object of a body: of the object that it is, or of the array's first element."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(parsed, list):
        parsed = parsed[0] if parsed else None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, dict) else None


def is_daily(error: dict[str, Any]) -> bool:
    """Whether a day's quota is used up."""
    return any("perday" in quota.lower() for quota in quotas_of(error))


def delay_of(error: dict[str, Any]) -> float | None:
    """Seconds until when to come back; None where it says none that lie ahead."""
    return next(filter(None, map(_seconds, _details(error))), None)


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


def quotas_of(error: dict[str, Any]) -> list[str]:
    """The ids of the quotas that were violated, as "GenerateRequestsPerDayPerProjectPerModel"."""
    found = []
    for detail in _details(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and isinstance(violation.get("quotaId"), str):
                found.append(violation["quotaId"])
    return found


def _seconds(detail: dict[str, Any]) -> float | None:
    """Of a RetryInfo, its delay ("17s", "45.811974541s"); None where there is none that lies ahead."""
    delay = detail.get("retryDelay")
    found = _DELAY.fullmatch(delay) if isinstance(delay, str) else None
    return float(found[1]) if found and float(found[1]) > 0 else None
