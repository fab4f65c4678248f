"""One event to one receiver, signed as Standard Webhooks has it (https://www.standardwebhooks.com, version 1.0.0)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from proxy import __version__
from proxy.config.secrets import webhook_key

if TYPE_CHECKING:
    import httpx2

ANSWERED_WITHIN_S = 20.0
LONGEST_WAIT_S = 3600
"""The most that a receiver's Retry-After is waited for."""
_MAY_BE_TAKEN_LATER = frozenset((408, 425, 429))


class Answer(NamedTuple):
    """What came of one attempt."""

    status: int | None
    """None where there was no answer."""
    said: str
    """The status, or why there is none."""
    retry_after_s: int = 0

    @property
    def taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def lets_others_pass(self) -> bool:
        """It was taken; or it is this event that isn't, and others may be."""
        refused = self.status is not None and 400 <= self.status < 500 and self.status not in _MAY_BE_TAKEN_LATER
        return self.taken or refused


class Webhook:
    """A receiver. Neither its secret nor its URL, which may hold another, is in a repr, a log or an error."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._key = webhook_key(secret)
        self.host = urlsplit(url).netloc
        self._client: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"<Webhook {self.host}>"

    def headers(self, event_id: str, body: bytes, unix_s: int) -> dict[str, str]:
        """What an attempt bears; `unix_s` is when it is made."""
        signed = f"{event_id}.{unix_s}.".encode() + body
        signature = b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        return {
            "content-type": "application/json",
            "user-agent": f"weighbridge/{__version__}",
            "webhook-id": event_id,
            "webhook-timestamp": str(unix_s),
            "webhook-signature": f"v1,{signature}",
        }

    async def send(self, event_id: str, body: bytes, unix_s: int) -> Answer:
        """One attempt. Follows no redirect, and reads the answer's head only. Raises nothing of the network's."""
        import httpx2  # not before: a server without webhooks does without

        if self._client is None:
            self._client = _client(self._url)
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                headers = self.headers(event_id, body, unix_s)
                async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                    wait = answer.headers.get("retry-after", "")
                    wait_s = min(int(wait), LONGEST_WAIT_S) if wait.isdecimal() and len(wait) < 10 else 0
                    return Answer(answer.status_code, str(answer.status_code), wait_s)
        except TimeoutError:
            return Answer(None, f"no answer within {ANSWERED_WITHIN_S:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            return Answer(None, str(error).replace(self._url, self.host)[:200] or type(error).__name__)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def _client(url: str) -> httpx2.AsyncClient:
    """By no proxy of the environment, trusting the same authorities as all else."""
    import httpx2

    from proxy.upstreams.tls import tls_context

    verify = tls_context() if url.startswith("https:") else True
    return httpx2.AsyncClient(timeout=ANSWERED_WITHIN_S, trust_env=False, follow_redirects=False, verify=verify)
