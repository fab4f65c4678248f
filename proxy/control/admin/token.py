"""The admin token: taken from the environment, else from its file, which the first start makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.config import secrets
from proxy.config.load import ConfigError
from proxy.store.folders import write_file

VARIABLE = "WEIGHBRIDGE_ADMIN_TOKEN"
FILE_NAME = "admin-token"
PREFIX = "wba_"
"""By which a token of ours is known where it leaked, and taken out of log lines (telemetry/logs.py)."""

_WELL_FORMED = re.compile(r"[!-~]{16,512}")
_OTHERS = 0o007
"""The group may read it: volumes of Kubernetes give every file to a group of the pod's (fsGroup)."""


def read(data_dir: Path, environ: Mapping[str, str]) -> str | None:
    """The token; None where there is none yet. Raises ConfigError where it can't be used. No message shows it."""
    if given := environ.get(VARIABLE, "").strip():
        return _checked(given, f"env {VARIABLE}", "set another one")
    path = data_dir / FILE_NAME
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"{path}: the admin token can't be read: {why}"]) from None
    if mode & _OTHERS:
        raise ConfigError(
            [
                f"{path}: every user of this machine could have read the admin token: remove the file, "
                "and the next start makes a new one"
            ]
        )
    return _checked(text, str(path), "remove the file, and the next start makes a new one")


def read_or_make(data_dir: Path, environ: Mapping[str, str], random: Callable[[int], bytes]) -> str:
    """The token, made and kept in its file where there is none yet. Only for who owns the ledger: one makes it.

    Raises ConfigError.
    """
    if (token := read(data_dir, environ)) is not None:
        return token
    token = PREFIX + random(32).hex()
    path = data_dir / FILE_NAME
    try:
        write_file(path, f"{token}\n")
    except OSError as error:
        raise ConfigError([f"{path}: the admin token can't be kept: {error.strerror}; or set {VARIABLE}"]) from error
    return secrets.remember(token)


def _checked(token: str, origin: str, advice: str) -> str:
    if not _WELL_FORMED.fullmatch(token):
        raise ConfigError(
            [f"{origin}: an admin token is one line of 16 to 512 printable ASCII characters without spaces: {advice}"]
        )
    return secrets.remember(token)
