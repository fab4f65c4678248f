"""Memory doesn't grow with the image: 20 MB pass through windows, both ways."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.scripted import scripted
from tests.stand import Weighbridge, weighbridge

MB = 1 << 20
MODEL = "/v1beta/models/gemini-3-pro-image:"


def peak(stand: Weighbridge) -> int:
    """The most memory that the process ever had, in bytes."""
    assert stand.process is not None
    status = Path(f"/proc/{stand.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def picture(size: int, framing: bytes) -> bytes:
    data = base64.b64encode(bytes(range(256)) * (size * 3 // 4 // 256))
    usage = b'"usageMetadata":{"promptTokenCount":9,"totalTokenCount":1129,"candidatesTokenCount":1120}'
    body = b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"%b"}}]}}],%b}' % (
        data,
        usage,
    )
    if framing == b"sse":
        body = b"data: " + body + b"\r\n\r\n"
    elif framing == b"array":
        body = b"[" + body + b"\n]"
    return body


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent"])
def test_pictures_of_20_mb_pass_without_growing_the_process_by_more_than_its_windows(tmp_path: Path, verb: str) -> None:
    framing = b"single" if verb == "generateContent" else b"sse" if "sse" in verb else b"array"
    body = picture(20 * MB, framing)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with (
        scripted(lambda connection: connection.sendall(head + body)) as upstream,
        weighbridge(tmp_path, upstream.base_url) as stand,
    ):
        headers, key = {"content-type": "application/json"}, stand.key()
        small = httpx2.get(f"{stand.base_url}/v1beta/models", headers={"x-goog-api-key": "no"})
        assert small.status_code == 400
        before = peak(stand)

        def one(_: int) -> bool:
            url = stand.base_url + MODEL + verb
            with httpx2.stream(
                "POST", url, content=b"{}", headers=headers | {"x-goog-api-key": key}, timeout=60
            ) as answer:
                return sum(len(piece) for piece in answer.iter_raw()) == len(body)

        with ThreadPoolExecutor(4) as callers:
            assert all(callers.map(one, range(8)))
        assert peak(stand) - before < 12 * MB
        assert [(record.images, record.total_token_count) for record in stand.records()] == [(1, 1129)] * 8
