"""An operator reads in time, and not each hour, that the gateway door's certificate ends."""

from __future__ import annotations

import time
from pathlib import Path

from structlog.testing import capture_logs

from proxy.config.expiry import DAY_S, Expiry
from tests.certificates import make_certificate


def test_what_expires_soon_is_told_once_and_once_again_when_it_has(tmp_path: Path) -> None:
    made, now, expiry = make_certificate(tmp_path, valid_until=20).path, time.time(), Expiry()
    with capture_logs() as said:
        for hours in range(30 * 24):
            expiry.look(made, now + hours * 3600)
    assert [line["event"] for line in said] == ["certificate_expires", "certificate_expired"]
    assert "expires in 13 days; renew it: the server takes a new one" in said[0]["what"]


def test_a_renewed_one_begins_anew_and_none_at_all_is_nobodys_business(tmp_path: Path) -> None:
    now, expiry = time.time(), Expiry()
    with capture_logs() as said:
        expiry.look(None, now)
        expiry.look(tmp_path / "gone.pem", now)
        expiry.look(make_certificate(tmp_path, valid_until=1).path, now)
        expiry.look(make_certificate(tmp_path, valid_until=90).path, now)
        expiry.look(tmp_path / "localhost.pem", now + 80 * DAY_S)
    assert [line["event"] for line in said] == ["certificate_expires"] * 2
