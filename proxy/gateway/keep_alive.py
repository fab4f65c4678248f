"""How long clients' connections are kept for further requests: one object for a door, which may change while it is open."""

from __future__ import annotations


class KeepAlive:
    """What holds for all connections of a door."""

    __slots__ = ("leaving", "requests", "seconds")

    def __init__(self, seconds: float = 75.0, requests: int = 0) -> None:
        """`seconds` without a request end a connection; so do so many requests, at 0 never."""
        self.seconds = seconds
        self.requests = requests
        self.leaving = False
        """The door is about to close: each answer says that it is its connection's last, so that clients go elsewhere."""
