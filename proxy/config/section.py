"""What all sections of weighbridge.toml are, and what several of them check."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, and strict about names: a setting that doesn't exist is a typo, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True)


def check_base_url(url: str) -> str:
    parts = urlsplit(url)
    # Never the URL itself in the message: what is wrong with it may be a password in it.
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password: the credential goes in api_key_env or api_key_file")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("must end with its path: no query, no fragment")
    if not re.fullmatch(r"[!-~]+", url):
        raise ValueError("must be printable ASCII without spaces")
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("has a host name that can't be one: a label is empty or longer than 63 letters") from None
    if parts.port == 0:  # reading the port also raises ValueError for one beyond 65535
        raise ValueError("must not have port 0")
    return url.rstrip("/")
