"""What `storage.database_url` says: which PostgreSQL, which database, as whom, and how TLS is to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from proxy.config.addresses import host_and_port

PORT = 5432
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "primary"),
    "channel_binding": ("disable", "prefer", "require"),
}
_FILES = ("sslrootcert", "sslcert", "sslkey")
_PARAMETERS = (*_CHOICES, *_FILES, "host")


@dataclass(frozen=True)
class DatabaseAddress:
    """A database_url, taken apart. Passwords are no part of it."""

    hosts: tuple[tuple[str, int], ...]
    """Servers, of which the first that answers is taken; a host that begins with "/" is the folder of a socket."""
    database: str
    user: str | None
    parameters: tuple[tuple[str, str], ...] = ()
    """Those of libpq's that a URL may give, by libpq's names."""

    def __str__(self) -> str:
        """As it may be shown."""
        user = f"{self.user}@" if self.user else ""
        if self.hosts[0][0].startswith("/"):
            return f"postgresql://{user}/{self.database}?host={self.hosts[0][0]}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"postgresql://{user}{hosts}/{self.database}"

    @property
    def connection(self) -> dict[str, str]:
        """What libpq is to be given, by its names."""
        hosts, ports = zip(*self.hosts, strict=True)
        place = {"host": ",".join(hosts), "port": ",".join(map(str, ports)), "dbname": self.database}
        return dict(self.parameters) | place | ({"user": self.user} if self.user else {})


def parse(url: str) -> DatabaseAddress:
    """Takes a URL apart. Raises ValueError, whose text says what to do and never the URL: it may hold a password."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql:// (an empty one is SQLite, in storage.data_dir)")
    if not re.fullmatch(r"[!-~]+", rest) or "#" in rest:
        raise ValueError("must be printable ASCII without spaces and without a fragment; %20 is a space in a name")
    # The last "@" before the query ends the credentials, and "/" may stand in a password.
    place, _, query = rest.partition("?")
    credentials, at, place = place.rpartition("@")
    if ":" in credentials or "/" in credentials or (not at and "@" in query):
        raise ValueError(
            "must not hold a password: put it into an environment variable and write "
            'database_password_env = "ITS_NAME", or into a file of mode 0600 and write '
            'database_password_file = "its path"'
        )
    servers, _, name = place.partition("/")
    if not name or "/" in name:
        raise ValueError("must end with the name of a database, as in postgresql://weighbridge@host:5432/weighbridge")
    parameters = _parameters(query)
    socket = parameters.pop("host", "")
    if bool(socket) == bool(servers) or (socket and not socket.startswith("/")):
        raise ValueError("must name the server as host:port, or the folder of its socket: /name?host=/run/postgresql")
    hosts = ((socket, PORT),) if socket else tuple(host_and_port(part, PORT, _HOST) for part in servers.split(","))
    return DatabaseAddress(hosts, unquote(name), unquote(credentials) or None, tuple(parameters.items()))


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "password":
            raise ValueError("must not hold a password: storage.database_password_env or _file says where it is")
        if name not in _PARAMETERS:
            raise ValueError(f"has a parameter that isn't known here; those that are: {', '.join(_PARAMETERS)}")
        if name in found:
            raise ValueError(f"gives {name} twice")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"has a {name} that is none of {', '.join(_CHOICES[name])}")
        if name in _FILES and not value.startswith("/") and (name, value) != ("sslrootcert", "system"):
            raise ValueError(f"must give {name} as an absolute path")
        found[name] = value
    return found
