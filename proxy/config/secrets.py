"""From the reference to a secret, as the configuration has it, to the secret itself."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path

_known: dict[str, str] = {}

_LOOKS_LIKE_A_KEY = re.compile(r"AIza|AQ\.|ya29\.|wb_|whsec_")


class SecretError(Exception):
    """`setting` is the one at fault; the text says what is wrong and what to do. It never holds a secret."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def remember(secret: str) -> str:
    """Has no log line of this process tell this secret from now on, whatever it looks like. Returns it."""
    global _known  # others read it while this adds: they go on with the one that they have
    _known = {**_known, secret: secret.lower()}
    return secret


def known() -> Mapping[str, str]:
    """Each secret that this process has read, and it in lower case, to be looked for."""
    return _known


def resolve(
    table: Mapping[str, object],
    environ: Mapping[str, str],
    secret: str = "api_key",  # noqa: S107  # a name
    of: str = "the key of this upstream",
) -> str:
    """The secret that `<secret>_env` or `<secret>_file` of a table leads to. Raises SecretError.

    `of` says in messages what it is.
    """
    env, file = f"{secret}_env", f"{secret}_file"
    if secret in table:
        raise SecretError(
            secret,
            "a secret must not stand in the file: put it into an environment variable and write "
            f'{env} = "ITS_NAME", or into a file of mode 0600 and write {file} = "its path"',
        )
    given = [name for name in (env, file) if name in table]
    if len(given) != 1:
        raise SecretError(given[0] if given else env, f"set exactly one of {env} and {file}")
    setting, reference = given[0], table[given[0]]
    if not isinstance(reference, str) or not reference.strip():
        raise SecretError(setting, f"should be a text: {'a name' if setting == env else 'a path'}")
    if _LOOKS_LIKE_A_KEY.match(Path(reference).name):
        raise SecretError(setting, "looks like the key itself; it wants the name of what holds the key")
    try:
        value = _from_env(reference, environ, of) if setting == env else _from_file(Path(reference))
    except ValueError as error:
        raise SecretError(setting, str(error)) from None
    if not re.fullmatch(r"[!-~]+", value):
        what = of.split()[1]
        raise SecretError(
            setting, f"{reference} must hold the {what} alone: one line of printable ASCII, without spaces"
        )
    return remember(value)


def webhook_key(secret: str) -> bytes:
    """The bytes that webhooks are signed with: 24 to 64 of them, in base64, with `whsec_` before them or without.

    Raises ValueError, which says how to make one.
    """
    try:
        key = b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError(
            "must hold 24 to 64 random bytes in base64, as Standard Webhooks has it: "
            'echo "whsec_$(openssl rand -base64 32)" makes such a secret'
        )
    return key


def check(table: Mapping[str, object], secret: str, value: str, parse: Callable[[str], object]) -> None:
    """Raises SecretError where what `<secret>_env` or `<secret>_file` led to isn't what `parse` takes."""
    try:
        parse(value)
    except ValueError as error:
        setting = f"{secret}_env" if f"{secret}_env" in table else f"{secret}_file"
        raise SecretError(setting, f"{table[setting]} {error}") from None


def _from_env(name: str, environ: Mapping[str, str], of: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError("wants the name of an environment variable: letters, digits and underscores")
    value = environ.get(name, "").strip()
    if not value:
        raise ValueError(f"the environment variable {name} is not set: set it to {of}")
    return value


def _from_file(path: Path) -> str:
    try:
        return path.expanduser().read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text") from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None


def exposure(path: Path) -> str | None:
    """A warning where every user of the machine can read a secret's file."""
    try:
        readable = path.expanduser().stat().st_mode & 0o004
    except OSError:
        return None
    return f"{path}: every user of this machine can read this secret; chmod 600 {path}" if readable else None
