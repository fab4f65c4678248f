"""How long clients' connections are kept for further requests: what holds for a door, and may change meanwhile."""

from __future__ import annotations


class KeepAlive:
    """What holds for all connections of a door."""

    __slots__ = ("leaving", "requests", "seconds")

    def __init__(self, seconds: float = 75.0, requests: int = 0) -> None:
        """`seconds` without a request end a connection; so do so many requests, at 0 never."""
        self.seconds = seconds
        self.requests = requests
        self.leaving = False
        """The door is about to close: each answer says that it is its connection's last, so that clients leave."""
