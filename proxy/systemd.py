"""What systemd is told by a server that it has started: sd_notify(3), for a unit of `Type=notify`."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def tell_ready(environ: Mapping[str, str]) -> None:
    """Says that the doors are open, where NOTIFY_SOCKET names who wants to know. Raises OSError: nobody is there, and
    would take the server for one that doesn't start."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    abstract = address.startswith("@")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(f"\0{address[1:]}" if abstract else address)
        notify.sendall(b"READY=1")
