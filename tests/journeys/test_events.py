"""A server that tells of events: from the database to a receiver, after a restart, and to another one by a reload."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from proxy.control import event_table
from proxy.control.events import make
from proxy.store.database import open_database
from tests.control.receiving import SECRET, header, receiver, told
from tests.journeys.watching import until
from tests.stand import Weighbridge


def note(stand: Weighbridge, matter: str) -> None:
    """What the server has noted, and not yet told."""
    event = make("test", {"matter": matter}, matter, time.time_ns() // 1000, f"{time.time_ns()}")
    event_table.note(open_database(stand.storage), [event])


def test_a_server_tells_what_waits_and_by_a_reload_another_receiver(upstream: str, tmp_path: Path) -> None:
    with receiver() as first, receiver() as second:
        hook = {"webhook_url": f"{first.base_url}/hidden", "webhook_secret_env": "HOOK"}
        stand = Weighbridge(tmp_path, upstream, {"events": hook}, environment={"HOOK": SECRET})
        note(stand, "before the start")
        try:
            stand.start()
            until(lambda: len(first.received) == 1, "told at the start")
            until(lambda: event_table.undelivered(open_database(stand.storage)) == [], "written down as delivered")
            assert stand.stop(signal.SIGKILL) == -9
            note(stand, "while it was dead")
            stand.settings = {}
            stand.start()
            stand.settings = {"events": hook | {"webhook_url": second.base_url}}
            stand._command("proxy", "serve")  # writes the file anew
            until(lambda: len(second.received) == 1, "told to the one whom the server was told of while it ran")
            until(lambda: event_table.undelivered(open_database(stand.storage)) == [], "written down as delivered")
            assert stand.stop() == 0
        finally:
            stand.close()
        log = stand.log()
    assert [event["data"]["matter"] for event in told(first)] == ["before the start"]
    assert [event["data"]["matter"] for event in told(second)] == ["while it was dead"]
    assert header(first.received[0], "webhook-signature").startswith("v1,")
    assert (SECRET in log, "hidden" in log) == (False, False)
