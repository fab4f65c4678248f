"""From the reference to an upstream's key, as the configuration has it, to the key itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_LOOKS_LIKE_A_KEY = re.compile(r"AIza|AQ\.|ya29\.|wb_")


class SecretError(Exception):
    """`setting` is the one at fault; the text says what is wrong and what to do. It never holds a secret."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def resolve(upstream: Mapping[str, object], environ: Mapping[str, str]) -> str:
    """The key that `api_key_env` or `api_key_file` of an upstream leads to. Raises SecretError."""
    if "api_key" in upstream:
        raise SecretError(
            "api_key",
            "a secret must not stand in the file: put it into an environment variable and write "
            'api_key_env = "ITS_NAME", or into a file of mode 0600 and write api_key_file = "its path"',
        )
    given = [name for name in ("api_key_env", "api_key_file") if name in upstream]
    if len(given) != 1:
        raise SecretError("name", "set exactly one of api_key_env and api_key_file")
    setting, reference = given[0], upstream[given[0]]
    if not isinstance(reference, str) or not reference.strip():
        raise SecretError(setting, f"should be a text: {'a name' if setting == 'api_key_env' else 'a path'}")
    if _LOOKS_LIKE_A_KEY.match(Path(reference).name):
        raise SecretError(setting, "looks like the key itself; it wants the name of what holds the key")
    value = _from_env(reference, environ) if setting == "api_key_env" else _from_file(Path(reference))
    if not re.fullmatch(r"[!-~]+", value):
        raise SecretError(setting, f"{reference} must hold the key alone: one line of printable ASCII, without spaces")
    return value


def _from_env(name: str, environ: Mapping[str, str]) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise SecretError("api_key_env", "wants the name of an environment variable: letters, digits and underscores")
    value = environ.get(name, "").strip()
    if not value:
        raise SecretError(
            "api_key_env", f"the environment variable {name} is not set: set it to the key of this upstream"
        )
    return value


def _from_file(path: Path) -> str:
    try:
        return path.expanduser().read_text("utf-8").strip()
    except OSError as error:
        raise SecretError("api_key_file", f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretError("api_key_file", f"{path} is not text") from None


def exposure(path: Path) -> str | None:
    """A warning where every user of the machine can read a secret's file."""
    try:
        readable = path.expanduser().stat().st_mode & 0o004
    except OSError:
        return None
    return f"{path}: every user of this machine can read this secret; chmod 600 {path}" if readable else None
