"""A certificate that is about to expire is told in the log: once when it is soon, and once when it has."""

from __future__ import annotations

from pathlib import Path

import structlog

from proxy.config.certificates import EXPIRES_SOON_DAYS, expires_s

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

DAY_S = 86_400
LOOKS_EVERY_S = 3600.0


class Expiry:
    """What has been told of the gateway door's certificate. A renewed one begins anew."""

    def __init__(self) -> None:
        self._told: set[tuple[float, str]] = set()

    def look(self, certificate: Path | None, unix_s: float) -> None:
        """Tells what is new to tell of it."""
        if certificate is None:
            return
        try:
            until = expires_s(certificate)
        except (OSError, KeyError):
            return  # somebody is writing it, or took it away: the reload tells
        days = int((until - unix_s) // DAY_S)
        if until <= unix_s:
            self._tell(until, "certificate_expired", f"{certificate}: clients refuse it; renew it")
        elif days < EXPIRES_SOON_DAYS:
            self._tell(until, "certificate_expires", f"{certificate}: expires in {days} days; renew it")

    def _tell(self, until: float, event: str, what: str) -> None:
        if (until, event) not in self._told:
            self._told.add((until, event))
            log.warning(event, what=f"{what}: the server takes a new one from the same file while it runs")
