"""One call: what is asked, by whom, and how it is to end early."""

from __future__ import annotations

from dataclasses import dataclass, field

VERBS = ("generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents")
"""Those that are metered."""
BREAKS = ("unread", "unanswered", "midway")
"""When the upstream resets: with the request's head before it, the whole request, or a part of its response sent."""
LEAVES = ("in the request", "unanswered", "answered", "unanswered")
"""When the client leaves: with its body half sent, once its call is upstream, or with the response's first bytes."""
WAYS = ("close", "reset", "half-close")


@dataclass(frozen=True)
class Call:
    """One call. What it asks for beside its body's bytes is what an estimate goes by."""

    number: int
    key: str
    verb: str
    model: str
    method: str
    path: str
    length: int
    """Bytes of its body."""
    body: bytes = field(repr=False)
    inline: int = 0
    """Bytes of base64 in it."""
    candidates: int = 1
    most_out: int | None = None
    size: str | None = None
    spoilt: bool = False
    """Its usage won't be what the emulator's account says."""
    breaks: str = ""
    leaves: str = ""
    way: str = ""

    @property
    def metered(self) -> bool:
        return self.verb in VERBS

    @property
    def project(self) -> str:
        return self.key.partition("-")[0]

    @property
    def print(self) -> tuple[str, int]:
        """What a record shows of it: no other call has the same."""
        return self.key, self.length

    def request(self, secret: str) -> bytes:
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: {secret}\r\nX-Call: {self.number}\r\n"
            f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body
