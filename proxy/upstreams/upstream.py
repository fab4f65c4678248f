"""An upstream: one credential and its base URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from mmap import mmap
from urllib.parse import urlsplit

from proxy.config.globs import matcher
from proxy.gemini import credentials
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.upstreams.observed import Observed
from proxy.upstreams.transport import Request, Response, Transport


class Upstream:
    """Where calls go. Puts on each request what this upstream needs: host, length, and exactly one credential."""

    def __init__(
        self,
        name: str,
        base_url: str,
        auth: str,
        api_key: str,
        transport: Transport,
        *,
        priority: int = 0,
        weight: int = 1,
        models: Sequence[str] = ("*",),
        projects: Sequence[str] = ("*",),
    ) -> None:
        """`models` and `projects` are globs: whose calls of what it serves. See config/upstreams.py for the others."""
        parts = urlsplit(base_url)
        self.name = name
        self.priority = priority
        self.weight = weight
        self._models = [matcher(glob, any_case=True) for glob in models]
        self._projects = [matcher(glob) for glob in projects]
        self.hostname = (parts.hostname or "").lower()
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.secret = api_key.encode()
        self.former = False
        """A reload has put another in its place, or none: what it says is said of nobody who has its name."""
        self.observed = Observed()
        self.identity = _identity(base_url, api_key)
        """What tells it, among processes, from another upstream of the same name."""
        self._prefix = parts.path.rstrip("/").encode()
        self._host = (b"host", parts.netloc.encode())
        self._credential = credentials.upstream_credential(auth, api_key)
        # With another header the compatibility layer answers "Missing or invalid Authorization header".
        self._bearer = credentials.upstream_credential("bearer", api_key)
        self.transport = transport

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self.transport!r}>"

    @property
    def in_flight(self) -> int:
        """Calls that are under way there now."""
        return self.transport.busy

    def serves(self, model: str, project: str) -> bool:
        """Whether a project's calls of a model may come here. `model` is empty where a call names none."""
        of_model = not model or any(matches(model) for matches in self._models)
        return of_model and any(matches(project) for matches in self._projects)

    async def send(
        self,
        call: Call,
        headers: Headers,
        body: bytes | bytearray | mmap | AsyncIterator[bytes],
        length: int,
        goes_up: Callable[[], object],
    ) -> Response:
        """Sends the call up and waits for the response's head. `headers` are those that cross from the client.

        `goes_up` is called just before the first byte is written. Raises UpstreamFailed.
        """
        head = [self._host, *headers, self._bearer if call.operation.compatible else self._credential]
        if call.operation.body:
            head.append((b"content-length", b"%d" % length))
        method = call.operation.method.encode()
        return await self.transport.send(Request(method, self._prefix + call.target, head, body), goes_up)


def _identity(base_url: str, api_key: str) -> str:
    """32 bits of a SHA-256: enough to tell apart the few upstreams of one name, and no way back to the credential."""
    return sha256(f"weighbridge upstream\0{base_url.rstrip('/')}\0{api_key}".encode()).hexdigest()[:8]
