"""Memory that one call gives back serves the next: to ask the kernel for it anew costs more than the call itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.scripted import scripted
from tests.stand import Weighbridge, weighbridge

UPLOAD = 8 << 20
PAGES = UPLOAD // 4096


def page_faults(stand: Weighbridge) -> int:
    """How many pages of memory the process was given so far."""
    assert stand.process is not None
    return int(Path(f"/proc/{stand.process.pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_an_upload_takes_the_memory_that_the_one_before_it_gave_back(tmp_path: Path) -> None:
    """Four at a time: once warm, hardly a page is asked of the kernel again."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    part = {"inlineData": {"mimeType": "image/png", "data": "A" * UPLOAD}}
    with (
        scripted(lambda connection: connection.sendall(answer)) as upstream,
        weighbridge(tmp_path, upstream.base_url) as stand,
    ):
        url, headers = (
            f"{stand.base_url}/v1beta/models/gemini-3-pro-image:generateContent",
            {"x-goog-api-key": stand.key()},
        )

        def upload(_: int) -> int:
            return httpx2.post(url, json={"contents": [{"parts": [part]}]}, headers=headers, timeout=60).status_code

        with ThreadPoolExecutor(4) as callers:
            assert set(callers.map(upload, range(8))) == {200}
            before = page_faults(stand)
            assert set(callers.map(upload, range(4))) == {200}
            assert (page_faults(stand) - before) / 4 < PAGES / 4
