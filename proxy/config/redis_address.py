"""What `storage.redis_url` says: which servers, whether by TLS, and who finds the one to speak to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from proxy.config.addresses import host_and_port

Mode = Literal["single", "cluster", "sentinel"]

_MODES: dict[str, Mode] = {"redis": "single", "redis+cluster": "cluster", "redis+sentinel": "sentinel"}
_SCHEMES = "redis://, redis+cluster://, redis+sentinel://, or with TLS rediss://, rediss+cluster://, rediss+sentinel://"
_PORTS: dict[Mode, int] = {"single": 6379, "cluster": 6379, "sentinel": 26379}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class RedisAddress:
    """A redis_url, taken apart. Passwords are no part of it."""

    mode: Mode
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    """One server; or some of the cluster's nodes, or of the sentinels, of which one must answer."""
    database: int = 0
    master: str = ""
    """The name by which sentinels know the server."""
    user: str | None = None


def parse(url: str) -> RedisAddress:
    """Takes a URL apart. Raises ValueError, whose text says what to do and never the URL: it may hold a password."""
    scheme, separator, rest = url.partition("://")
    plain = scheme.replace("rediss", "redis", 1)
    if not separator or plain not in _MODES:
        raise ValueError(f"must begin with one of {_SCHEMES}")
    if not re.fullmatch(r"[!-~]+", rest) or "?" in rest or "#" in rest:
        raise ValueError("must be scheme, servers and path, in printable ASCII: no query, no fragment, no spaces")
    mode = _MODES[plain]
    # The last "@" ends the credentials, and "/" may stand in a password: nothing of it may be taken for a host.
    credentials, _, place = rest.rpartition("@")
    if ":" in credentials or "/" in credentials:
        raise ValueError(
            "must not hold a password: put it into an environment variable and write "
            'redis_password_env = "ITS_NAME", or into a file of mode 0600 and write redis_password_file = "its path"'
        )
    servers, _, path = place.partition("/")
    hosts = tuple(host_and_port(part, _PORTS[mode], _HOST) for part in servers.split(","))
    if mode == "single" and len(hosts) > 1:
        raise ValueError("names several servers: write redis+cluster:// or redis+sentinel:// if they are such")
    database, master = _path(mode, path)
    return RedisAddress(mode, scheme != plain, hosts, database, master, unquote(credentials) or None)


def _path(mode: Mode, path: str) -> tuple[int, str]:
    """Database and master that the path names."""
    parts = path.split("/") if path else []
    master = ""
    if mode == "sentinel":
        master = unquote(parts.pop(0)) if parts else ""
        if not master:
            raise ValueError("must name the master that the sentinels watch: redis+sentinel://host:26379/MASTER")
    if len(parts) > 1 or (parts and not re.fullmatch(r"[0-9]{0,6}", parts[0])):
        raise ValueError("may end with the number of a database, as in redis://host:6379/0, and with nothing else")
    database = int(parts[0] or 0) if parts else 0
    if mode == "cluster" and database:
        raise ValueError("names a database, and a Redis Cluster has only number 0")
    return database, master
