"""Nothing that a call took of its limits is left behind, however it ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.journeys.limited import ASK, Held, used, with_limits
from tests.journeys.watching import body, connect, in_flight, locked, until
from tests.stand import weighbridge
from tests.upstreams.origin import serving


async def test_a_call_that_is_cut_off_while_it_is_written_down_gives_its_place_back(tmp_path: Path) -> None:
    """Its client has left, and the time for outliving it ends while the disk is slow: it's on the bill, and settled."""
    slow = Held()
    async with serving(slow, seconds=60) as upstream:
        with weighbridge(tmp_path, upstream.url, {"gateway": {"drain_after_disconnect_s": 1}}) as stand:
            key, content = with_limits(stand, "concurrency=1", "tpm=1000"), json.dumps(body("hello")).encode()
            with connect(stand.base_url) as caller:
                caller.sendall(
                    b"POST %b HTTP/1.1\r\nhost: h\r\nx-goog-api-key: %b\r\ncontent-length: %d\r\n\r\n%b"
                    % (ASK.encode(), key.encode(), len(content), content)
                )
                await asyncio.to_thread(until, lambda: slow.arrived == 1, "the call went up")
            with locked(stand.data_dir / "ledger" / "0.db"):
                slow.release.set()
                await asyncio.to_thread(until, lambda: not in_flight(stand.admin_url), "the call was cut off")
            await asyncio.to_thread(until, stand.records, "it is written down")
            assert [record.outcome for record in stand.records()] == ["client_gone"]
            assert used(stand) == {"concurrency": 0, "tpm": 9}
