"""What the bench sends and what its upstream answers: the S, M and L of docs/performance.md."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import NamedTuple

CHUNK = 16384
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nVary: Origin\r\nVary: X-Origin\r\n"
    b"Vary: Referer\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\nServer: scaffolding on HTTPServer2\r\n"
    b"X-XSS-Protection: 0\r\nX-Frame-Options: SAMEORIGIN\r\nX-Content-Type-Options: nosniff\r\n"
    b"Server-Timing: gfet4t7; dur=812\r\nX-Gemini-Service-Tier: standard\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Payload(NamedTuple):
    """One kind of call. `name` is the model whose path it is sent to, `connections` how many are kept busy."""

    letter: str
    model: str
    request_bytes: int
    response_bytes: int
    connections: int


PAYLOADS = (
    Payload("S", "gemini-3.8-flash", 934, 1_200, 64),
    Payload("M", "gemini-3.1-flash-image", 266, 3_000_000, 8),
    Payload("L", "gemini-3-pro-image", 266, 20_000_000, 4),
)


def request_body(payload: Payload) -> bytes:
    """A generateContent body of just that size."""
    empty = _request("")
    return _request("x" * (payload.request_bytes - len(empty)))


def _request(text: str) -> bytes:
    config = {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "16:9", "imageSize": "1K"}}
    return json.dumps({"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}).encode()


def response_file(payload: Payload, folder: Path) -> Path:
    """Writes the upstream's whole response, as Google frames it: chunked, pretty-printed JSON."""
    noise = random.Random(payload.letter)
    raw = base64.b64encode(noise.randbytes(payload.response_bytes * 3 // 4))
    part: dict[str, object] = {"text": raw.decode()[: payload.response_bytes - 700]}
    image = payload.letter != "S"
    if image:
        part = {"inlineData": {"mimeType": "image/png", "data": raw.decode()}}
    usage = {
        "promptTokenCount": 258,
        "candidatesTokenCount": 1332,
        "totalTokenCount": 1727,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 258}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}] if image else [],
        "thoughtsTokenCount": 137,
        "serviceTier": "standard",
    }
    document = {
        "candidates": [{"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
        "modelVersion": payload.model,
        "responseId": "bench-response-id-0001",
    }
    body = json.dumps(document, indent=2).encode()
    pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    file = folder / f"{payload.model}.http"
    file.write_bytes(HEAD + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n")
    return file
