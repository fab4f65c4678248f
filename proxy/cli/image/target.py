"""Where a picture is asked for, and with which key: as typed, made sense of before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from proxy.cli.options import CommandError
from proxy.config.load import GOOGLE_KEYS
from proxy.tenants import key_format

GOOGLE = "generativelanguage.googleapis.com"
_WEBSITES = (
    "aistudio.google.com",
    "ai.google.dev",
    "makersuite.google.com",
    "gemini.google.com",
    "console.cloud.google.com",
)
_SURFACE = re.compile(
    r"(.*?)(/(?:(?:v1|v1beta|v1alpha|v1beta1)(?:/openai)?|openai(?:/v1)?)(?:/(?:models|images)(?:/.*)?)?)"
)
"""A base URL's own path, and what SDKs or snippets have behind it."""
_GOOGLES = re.compile(r"(?:AIza|AQ\.)")
_KEY = re.compile(r"[!-~]+")

GET_A_KEY = "`weighbridge key create PROJECT` makes one"
GET_GOOGLES_KEY = "https://aistudio.google.com/apikey makes one"


class Target(NamedTuple):
    """A Weighbridge, Google itself, or what speaks as it does."""

    base_url: str
    key: str
    google: bool
    note: str = ""
    """What was made of the URL that was given, where it wasn't taken as it is."""

    @property
    def has_googles_key(self) -> bool:
        return _GOOGLES.match(self.key) is not None


def read(base_url: str, key: str, environ: Mapping[str, str]) -> Target:
    """Raises CommandError, which says what to give instead."""
    parts = _split(base_url.strip())
    google = parts.hostname == GOOGLE
    path, ending = parts.path.rstrip("/"), ""
    while found := _SURFACE.fullmatch(path):
        path, ending = found[1], found[2] + ending
    url = f"{parts.scheme}://{parts.netloc}{path}"
    note = f"the base URL is taken without {ending}: {url}" if ending else ""
    return Target(url, _key(key, environ, google=google), google, note)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise CommandError(f"{url} can't be reached ({error}): give a base URL such as http://127.0.0.1:8080") from None
    if "://" not in url or not host:
        raise CommandError(
            f"{url} can't be reached (it is no URL): write http:// or https:// before a host, as in "
            f"http://127.0.0.1:8080 or https://{GOOGLE}"
        )
    if parts.scheme not in ("http", "https"):
        raise CommandError(f"{url} can't be reached (no {parts.scheme} is spoken): write http:// or https://")
    if parts.query or parts.fragment or parts.username is not None:
        raise CommandError("a base URL is a host, and perhaps a path: leave out what stands before @ or behind ? or #")
    if host.endswith("aiplatform.googleapis.com"):
        raise CommandError(
            f"{host} is Vertex AI's, another family of endpoints with other credentials: give your Weighbridge, or the "
            f"Gemini API, https://{GOOGLE}"
        )
    if host in _WEBSITES:
        raise CommandError(f"{host} is a website for people: the Gemini API is at https://{GOOGLE}")
    if host == GOOGLE and parts.scheme == "http":
        raise CommandError(f"Google serves https only, and a key would cross unencrypted: write https://{GOOGLE}")
    return parts


def _key(given: str, environ: Mapping[str, str], *, google: bool) -> str:
    names = (*GOOGLE_KEYS, "WEIGHBRIDGE_KEY") if google else ("WEIGHBRIDGE_KEY",)
    key = given or next((environ[name] for name in names if environ.get(name)), "")
    if not key:
        where = f"--key, or set {names[0]}. {GET_GOOGLES_KEY if google else GET_A_KEY}"
        raise CommandError(f"no key: give {where}")
    if not _KEY.fullmatch(key):
        raise CommandError("what was given as key can't be one: it holds a space, or what isn't ASCII. Copy it anew")
    if google and key.startswith(key_format.PREFIX):
        raise CommandError(
            "the key is one of a Weighbridge, which Google doesn't know: give the Weighbridge's --base-url, or a key "
            f"of Google's ({GET_GOOGLES_KEY}). Nothing was sent"
        )
    return key
