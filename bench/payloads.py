"""What the bench sends and what its upstream answers: S, R, P, M, L, U, E and I, and what each may cost."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

CHUNK = 16384
EVENTS = 40
EVENT_BYTES = 283
GAP_MS = 5
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nVary: Origin\r\nVary: X-Origin\r\n"
    b"Vary: Referer\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\nServer: scaffolding on HTTPServer2\r\n"
    b"X-XSS-Protection: 0\r\nX-Frame-Options: SAMEORIGIN\r\nX-Content-Type-Options: nosniff\r\n"
    b"Server-Timing: gfet4t7; dur=812\r\nX-Gemini-Service-Tier: standard\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Payload(NamedTuple):
    """One kind of call, kept busy on so many connections. `must` and `goal`: its processor time, nginx's being 1; of I,
    that of a native call being 1."""

    letter: str
    what: str
    model: str
    """Its path names the answer, for the upstream to find."""
    request_bytes: int
    response_bytes: int
    connections: int
    must: float
    goal: float

    @property
    def streams(self) -> bool:
        return self.letter == "E"

    @property
    def pictures(self) -> bool:
        return "image" in self.model

    @property
    def in_redis(self) -> bool:
        """Its limits are counted there, and not in the process."""
        return self.letter == "R"

    @property
    def openai(self) -> bool:
        """It asks for the picture as OpenAI's clients do."""
        return self.letter == "I"

    @property
    def per(self) -> str:
        return "event" if self.streams else "call"

    @property
    def path(self) -> str:
        if self.openai:
            return "/v1/images/generations"
        return f"/v1beta/models/{self.model}:{'streamGenerateContent?alt=sse' if self.streams else 'generateContent'}"


PAYLOADS = (
    Payload("S", "1 KB up, 1 KB down", "gemini-3.8-flash", 934, 1_200, 64, 12, 7),
    Payload("R", "S, its limits counted in Redis", "gemini-3.8-flash", 934, 1_200, 64, 14, 8),
    Payload("P", "S, shared among ten upstreams", "gemini-3.8-flash", 934, 1_200, 64, 12, 7),
    Payload("M", "a picture of 3 MB down", "gemini-3.1-flash-image", 266, 3_000_000, 8, 1.7, 1.2),
    Payload("L", "a picture of 20 MB down", "gemini-3-pro-image", 266, 20_000_000, 4, 1.7, 1.2),
    Payload("U", "pictures, 8 MB up, 3 MB down", "gemini-2.5-flash-image", 8_000_000, 3_000_000, 4, 2, 1.3),
    Payload("E", "events of 283 B, 5 ms apart", "gemini-3.1-pro-preview", 934, EVENTS * EVENT_BYTES, 100, 4, 2.5),
    Payload("I", "M, asked for in OpenAI's shape", "gemini-3.1-flash-image", 266, 3_000_000, 8, 3, 2),
)


def request_body(payload: Payload) -> bytes:
    """A body of just that size: generateContent's, where a large one holds a picture, or that of OpenAI's images."""
    if payload.openai:
        asked = {"model": payload.model, "size": "1536x1024", "prompt": ""}
        asked["prompt"] = _noise(payload.letter, payload.request_bytes - len(json.dumps(asked)))
        return json.dumps(asked).encode()
    part: dict[str, Any] = {"text": ""}
    if payload.request_bytes > 1_000_000:
        part = {"inlineData": {"mimeType": "image/png", "data": ""}}
    config = {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "16:9", "imageSize": "1K"}}
    body = {"contents": [{"role": "user", "parts": [part]}], "generationConfig": config}
    room = payload.request_bytes - len(json.dumps(body))
    holder, name = (part, "text") if "text" in part else (part["inlineData"], "data")
    holder[name] = _noise(payload.letter, room)
    return json.dumps(body).encode()


def response_file(payload: Payload, folder: Path) -> Path:
    """Writes the upstream's whole response, as Google frames it: in chunks; MODEL.N.http goes out a chunk each N ms."""
    body = _events() if payload.streams else [_picture(payload) if payload.pictures else _text(payload)]
    pieces = [part[at : at + CHUNK] for part in body for at in range(0, len(part), CHUNK)]
    kind = b"text/event-stream" if payload.streams else b"application/json; charset=UTF-8"
    file = folder / f"{payload.model}.{GAP_MS if payload.streams else 0}.http"
    file.write_bytes(HEAD % kind + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n")
    return file


def _picture(payload: Payload) -> bytes:
    data = {"mimeType": "image/png", "data": _noise(payload.letter, payload.response_bytes)}
    return json.dumps(_document(payload.model, {"inlineData": data}, image=True), indent=2).encode()


def _text(payload: Payload) -> bytes:
    words = {"text": _noise(payload.letter, payload.response_bytes - 700)}
    return json.dumps(_document(payload.model, words, image=False), indent=2).encode()


def _events() -> list[bytes]:
    """Each of EVENT_BYTES, but for the last, which brings the usage."""
    head, tail = (
        b'data: {"candidates": [{"content": {"parts": [{"text": "',
        b'"}], "role": "model"}, "index": 0}]}\r\n\r\n',
    )
    event = head + _noise("E", EVENT_BYTES - len(head + tail)).encode() + tail
    last = json.dumps(_document("gemini-3.1-pro-preview", {"text": ""}, image=False)).encode()
    return [event] * (EVENTS - 1) + [b"data: %b\r\n\r\n" % last]


def _document(model: str, part: dict[str, Any], *, image: bool) -> dict[str, Any]:
    usage = {
        "promptTokenCount": 258,
        "candidatesTokenCount": 1332,
        "totalTokenCount": 1727,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 258}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}] if image else [],
        "thoughtsTokenCount": 137,
        "serviceTier": "standard",
    }
    return {
        "candidates": [{"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
        "modelVersion": model,
        "responseId": "bench-response-id-0001",
    }


def _noise(seed: str, size: int) -> str:
    return base64.b64encode(random.Random(seed).randbytes(size * 3 // 4 + 3)).decode()[:size]
