"""What a key may do, by its own options and by its project's: models, addresses, expiry, limits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from proxy.config.addresses import Address, Network, parse_network
from proxy.config.globs import check_glob, matcher
from proxy.config.limits import Limit, parse_all
from proxy.errors import ProxyRefused, Reason
from proxy.store.database import StoreError

ALL = ("*",)
"""The globs of who may use every model."""

MAX_ENTRIES = 100
"""Of one list of globs or addresses: each call is held against it."""

_REMEMBERED = 1 << 17
"""Columns that are not read again: all keys are read anew at each change, and most columns are what they were."""

_SHOWN_GLOBS = 5


class Policy(NamedTuple):
    """What a key may do. All of it holds: the project's models and the key's, the project's limits and the key's."""

    models: tuple[str, ...] = ALL
    key_models: tuple[str, ...] = ALL
    addresses: tuple[Network, ...] = ()
    """Where the key may be used from; empty: from everywhere."""
    expires_at: int | None = None
    """Unix microseconds; from then on the key is refused."""
    project_limits: tuple[Limit, ...] = ()
    key_limits: tuple[Limit, ...] = ()

    def authorize_model(self, model: str, used: str) -> None:
        """Raises ProxyRefused (MODEL_NOT_ALLOWED). Ids without "models/": of the model that is asked for, and of the
        one that stands in for it where there is an alias: whoever may use either may ask."""
        for globs, whose in ((self.models, "This project"), (self.key_models, "This key")):
            if not _match(globs, model, used):
                allowed = ", ".join(globs[:_SHOWN_GLOBS]) + (", …" if len(globs) > _SHOWN_GLOBS else "")
                raise ProxyRefused(
                    Reason.MODEL_NOT_ALLOWED,
                    f"{whose} may not use the model {model[:100]!r}, only {allowed}. "
                    "Ask for one of those, or have whoever runs this proxy allow it.",
                )

    def allows_model(self, model: str, used: str) -> bool:
        """Whether `authorize_model` lets it pass."""
        return _match(self.models, model, used) and _match(self.key_models, model, used)

    def authorize_address(self, address: Address | None) -> None:
        """Raises ProxyRefused (ADDRESS_NOT_ALLOWED), also for an address that isn't known where one is asked for."""
        if not self.addresses:
            return
        if address is None or not any(address in network for network in self.addresses):
            whence = f"from {address}" if address else "from an address that can't be told"
            raise ProxyRefused(
                Reason.ADDRESS_NOT_ALLOWED,
                f"This key may not be used {whence}. Have whoever runs this proxy allow that address.",
            )


def _match(globs: tuple[str, ...], model: str, used: str) -> bool:
    return globs == ALL or any(matcher(glob)(model) or matcher(glob)(used) for glob in globs)


UNRESTRICTED = Policy()


class StoredPolicy(NamedTuple):
    """A policy as the database has it: the lists as JSON texts. Equal rows make equal policies."""

    models: str
    key_models: str
    addresses: str
    expires_at: int | None
    project_limits: str
    key_limits: str

    def read(self) -> Policy:
        """Raises StoreError where it was not written by this program."""
        return Policy(
            models=read_texts(self.models),
            key_models=read_texts(self.key_models),
            addresses=read_networks(self.addresses),
            expires_at=self.expires_at,
            project_limits=read_limits(self.project_limits),
            key_limits=read_limits(self.key_limits),
        )


def write_texts(values: Iterable[object]) -> str:
    """A list of limits, globs or addresses as a column holds it."""
    return json.dumps([str(value) for value in values], ensure_ascii=False)


@lru_cache(maxsize=_REMEMBERED)
def read_texts(column: str) -> tuple[str, ...]:
    """What `write_texts` wrote. Raises StoreError."""
    try:
        return tuple(map(str, json.loads(column)))
    except (ValueError, TypeError):
        raise StoreError(f"the database holds {column[:80]!r} where a list of texts should be") from None


@lru_cache(maxsize=_REMEMBERED)
def read_limits(column: str) -> tuple[Limit, ...]:
    """The limits that `write_texts` wrote. Raises StoreError."""
    try:
        return parse_all(read_texts(column))
    except ValueError as error:
        raise StoreError(f"the database holds limits that can't be read: {error}") from None


@lru_cache(maxsize=_REMEMBERED)
def read_networks(column: str) -> tuple[Network, ...]:
    """The addresses that `write_texts` wrote. Raises StoreError."""
    try:
        return tuple(map(parse_network, read_texts(column)))
    except ValueError as error:
        raise StoreError(f"the database holds addresses that can't be read: {error}") from None


def check_models(globs: Iterable[str]) -> tuple[str, ...]:
    """Globs of models, each once. Raises ValueError, with a sentence."""
    checked = tuple(dict.fromkeys(map(check_glob, globs)))
    if not checked:
        raise ValueError("no model is named: '*' stands for all")
    return ALL if "*" in checked else _bounded(checked, "models")


def check_addresses(texts: Iterable[str]) -> tuple[str, ...]:
    """Networks as texts, each once. Raises ValueError, with a sentence."""
    return _bounded(tuple(dict.fromkeys(str(parse_network(text)) for text in texts)), "addresses")


def _bounded(entries: tuple[str, ...], what: str) -> tuple[str, ...]:
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"{len(entries)} {what} are too many: keep at most {MAX_ENTRIES}, or write wider ones")
    return entries
