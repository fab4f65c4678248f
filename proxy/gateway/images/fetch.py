"""Pictures named by URL: fetched over https alone, from addresses that were checked, within bounds of time and size."""

from __future__ import annotations

import asyncio
import io
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.errors import CallerErred, Reason
from proxy.gateway.images.formats import sniff
from proxy.gateway.images.public import is_public
from proxy.upstreams.dialing import Resolve
from proxy.upstreams.tls import tls_context

if TYPE_CHECKING:
    import ssl

    import httpx2

LARGEST = 20 << 20
"""Bytes of a picture."""
WITHIN_S = 15.0
"""For all of it: names, connections, redirects, the last byte."""
CONNECT_S = 5.0
REDIRECTS = 3
ADDRESSES = 4
"""Of a host that are tried, at most."""
AT_ONCE = 8
"""Fetches of a process. The others wait, and their time doesn't run yet."""
LONGEST_URL = 8192

_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A name of several labels. The last one of a name begins with a letter, so no way to write an address fits: neither
2130706433 nor 0x7f.1, which resolvers take for 127.0.0.1."""
_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
_UNTOLD = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""What storage services say of files that nobody gave a type: the content decides alone."""
_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    "accept": "image/png, image/jpeg, image/webp",
    "accept-encoding": "identity",
    "user-agent": f"weighbridge/{__version__}",
}
"""All that is said of us: no credential, no cookie, no referrer."""


class Fetcher:
    """Fetches pictures. One for a configuration; nothing is kept from one fetch to the next."""

    def __init__(
        self,
        resolve: Resolve | None = None,
        *,
        cafile: str | None = None,
        loopback: bool = False,
        within_s: float = WITHIN_S,
        connect_s: float = CONNECT_S,
    ) -> None:
        """`cafile` and `loopback` are for tests, and no configuration sets them: the authorities that are trusted in
        place of the system's; whether this machine's own addresses, at any port, may be fetched from."""
        self._names = ThreadPoolExecutor(4, "fetched-names")
        self._resolve = resolve or self._system_resolve
        self._cafile = cafile
        self._loopback = loopback
        self._within_s = within_s
        self._connect_s = connect_s
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tls: ssl.SSLContext | None = None

    async def fetch(self, url: str) -> tuple[bytes, str]:
        """A picture's content and its media type (image/png, image/jpeg or image/webp, as the content has it).

        Raises CallerErred, whose message names the host and nothing else of the URL, which may be signed.
        """
        if self._tls is None:
            self._tls = await asyncio.get_running_loop().run_in_executor(self._names, _prepare, self._cafile)
        import httpx2  # not before: a server that fetches nothing does without

        host = "The URL"
        async with self._places:
            try:
                async with asyncio.timeout(self._within_s):
                    at = self._parse(url)
                    for _ in range(1 + REDIRECTS):
                        host = at.raw_host.decode()
                        answer = await self._get(at)
                        if not isinstance(answer, httpx2.URL):
                            return answer
                        at = self._parse(str(at.join(answer)))
                    raise _wrong(f"{host} redirects more than {REDIRECTS} times")
            except TimeoutError:
                raise _wrong(f"{host} took more than {self._within_s:g} s") from None
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError):
                raise _wrong(f"{host} broke off, or its certificate or its answer is not in order") from None

    def _parse(self, text: str) -> httpx2.URL:
        """A URL that may be looked up. Raises CallerErred."""
        import httpx2

        try:
            url = httpx2.URL(text) if len(text) <= LONGEST_URL else None
        except (httpx2.InvalidURL, UnicodeError, ValueError):
            url = None
        if url is None:
            raise _wrong(f"It is no URL, or longer than {LONGEST_URL} characters")
        if url.scheme != "https":
            raise _wrong("The URL, or one that it redirects to, isn't https")
        host = url.raw_host.decode("ascii", "replace").lower().removesuffix(".")
        if _HOST.fullmatch(host) is None:
            raise _wrong("The URL must name its host by a full name, such as pictures.example.com, not by an address")
        if url.userinfo or b"@" in url.netloc:
            raise _wrong(f"The URL has a user name or a password in it, which is not sent to {host}")
        if url.port not in (None, 443) and not self._loopback:
            raise _wrong(f"The URL names a port; {host} is fetched from at 443 only")
        return url.copy_with(host=host, fragment=None)

    async def _get(self, url: httpx2.URL) -> tuple[bytes, str] | httpx2.URL:
        """What the host answers: a picture, or where else to look. The first address that can be connected to is it."""
        import httpx2

        host = url.raw_host.decode()
        for address in await self._addresses(host):
            # A client of its own, so that no connection made for one name serves another at the same address.
            async with self._client(url.netloc) as client:
                try:
                    at = url.copy_with(host=address)
                    async with client.stream("GET", at, extensions={"sni_hostname": host}) as answer:
                        if answer.status_code in _REDIRECTED:
                            return httpx2.URL(answer.headers.get("location", ""))
                        return await _read(host, answer)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    continue
        raise _wrong(f"{host} could not be connected to, or has no valid certificate for its name")

    async def _addresses(self, host: str) -> list[str]:
        """Where a name leads, each address checked: if one is of a network of ours, none is used. Raises CallerErred.

        It is looked up once: what is connected to is what was checked. One sentence for all that can be wrong, so that
        nobody learns by it which names there are in here.
        """
        try:
            found = await self._resolve(host)
        except (OSError, UnicodeError):
            found = []
        if not found or not all(self._may_connect(address) for address in found):
            raise _wrong(f"{host} is no name that leads to public addresses, and to no other")
        return list(dict.fromkeys(found))[:ADDRESSES]

    def _may_connect(self, address: str) -> bool:
        return is_public(address) or (self._loopback and ip_address(address).is_loopback)

    async def _system_resolve(self, host: str) -> Sequence[str]:
        """In threads of its own: names that are slow to resolve hold up no upstream's. As a full name (with its dot),
        which is looked for in no domain of ours."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._names, _look_up, f"{host}.")

    def _client(self, netloc: bytes) -> httpx2.AsyncClient:
        import httpx2

        assert self._tls is not None
        return httpx2.AsyncClient(
            headers={"host": netloc.decode()} | _HEADERS,
            timeout=httpx2.Timeout(self._within_s, connect=self._connect_s),
            trust_env=False,
            follow_redirects=False,
            verify=self._tls,
        )

    def close(self) -> None:
        self._names.shutdown(wait=False, cancel_futures=True)


def _prepare(cafile: str | None) -> ssl.SSLContext:
    """What takes long the first time, in a thread."""
    import httpx2  # noqa: F401

    return tls_context(cafile)


def _look_up(host: str) -> list[str]:
    return [str(at[0]) for *_, at in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


async def _read(host: str, answer: httpx2.Response) -> tuple[bytes, str]:
    """The picture that is the answer. No more is read than its bound, and nothing of what is no picture."""
    if answer.status_code != 200:
        raise _wrong(f"{host} answered {answer.status_code} to a request without credentials")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise _wrong(f"{host} compresses its answer, though it was asked not to")
    said = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in _TYPES | _UNTOLD:
        raise _wrong(f"{host} answered with {said[:60]!r}, not with image/png, image/jpeg or image/webp")
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and int(length) > LARGEST:
        raise _too_large(host)
    content, kind = io.BytesIO(), None
    async for piece in answer.aiter_raw():
        content.write(piece)
        if content.tell() > LARGEST:
            raise _too_large(host)
        if kind is None and content.tell() >= 12 and (kind := sniff(content.getbuffer()[:12])) is None:
            break
    if kind is None:
        raise _wrong(f"{host} answered with something that is no PNG, JPEG or WebP, whatever its type says")
    return content.getvalue(), kind


def _too_large(host: str) -> CallerErred:
    return _wrong(f"The picture at {host} is larger than {LARGEST >> 20} MB")


def _wrong(what: str) -> CallerErred:
    advice = "Name a picture that anybody can fetch by https, or send it in base64, as a data URL."
    return CallerErred(Reason.BAD_REQUEST, f"The picture could not be fetched. {what}. {advice}")
