"""The configuration of a running server: read anew when its files change, or when told; a bad one changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import structlog
from pydantic import BaseModel

from proxy.config.load import ConfigError, Loaded, read
from proxy.config.schema import Settings
from proxy.config.stamps import stamp

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

AT_START = (
    *("server.host", "server.port", "server.admin_host", "server.admin_port", "server.workers"),
    *("storage.", "limits.on_redis_down", "logs.format"),
)
"""Settings that a running process can't change, by the beginnings of their names. So is whether there is TLS at all."""

Outcome = Literal["applied", "rejected"]


class Reloader:
    """Looks each second at the files that a configuration hangs on: a stat for each. Used on one event loop.

    A file may be in the midst of being written. So a change is read once its files have stood still from one look to
    the next, and what is then found bad is read once more before it is told.
    """

    def __init__(
        self,
        loaded: Loaded,
        environ: Mapping[str, str],
        *,
        apply: Callable[[Settings], object],
        done: Callable[[Outcome], object],
    ) -> None:
        """`loaded` is in force. `apply` takes another one, or raises ConfigError and changes nothing; `done` counts."""
        self._started = loaded.settings
        self._loaded = loaded
        self._environ = environ
        self._apply = apply
        self._done = done
        self._files = dict(loaded.files)
        self._due = False
        self._doubted = False
        self._told = asyncio.Event()

    def tell(self) -> None:
        """SIGHUP: reads at once, whether anything has changed or not."""
        self._told.set()

    def catch_up(self) -> None:
        """Before anything is served: takes what has changed since `loaded` was read, as where a process takes a dead
        one's place. Raises ConfigError: others go on under the last good one, and this process has never read that."""
        if {path: stamp(path) for path in self._files} != self._files:
            self._accept(self._take())

    async def watch(self, interval_s: float = 1.0) -> None:
        """Follows changes, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._told.wait()
            told = self._told.is_set()
            self._told.clear()
            self.look(told=told)

    def look(self, *, told: bool = False) -> None:
        """Takes a change that has come to rest, or that somebody told of."""
        seen = {path: stamp(path) for path in self._files}
        changed = seen != self._files
        self._files = seen
        if told or changed:
            self._due, self._doubted = True, False
        if told or (self._due and not changed):
            self._read()

    def _read(self) -> None:
        try:
            loaded = self._take()
        except ConfigError as error:
            self._files |= error.files
            if self._doubted:
                self._reject(error.problems)
            self._doubted = not self._doubted
        except Exception as error:  # whatever it is: changes must be followed after it, too
            log.exception("configuration_failed")
            self._reject([repr(error)])
        else:
            self._accept(loaded)

    def _take(self) -> Loaded:
        """Reads, and applies what was read. Raises ConfigError."""
        # The file that was there at start: should it vanish, that is an error and not a wish for the defaults.
        loaded = read(self._loaded.file, self._environ)
        self._files = dict(loaded.files)
        self._apply(loaded.settings)
        return loaded

    def _reject(self, problems: Iterable[str]) -> None:
        self._due = False
        for problem in problems:
            log.error("configuration_rejected", why=problem, what="the configuration read before stays in force")
        self._done("rejected")

    def _accept(self, loaded: Loaded) -> None:
        was, self._loaded, self._due = self._loaded, loaded, False
        names = list(changes(was.settings, loaded.settings))
        log.info("configuration_reloaded", file=str(loaded.file), changed=", ".join(names) or "no setting")
        for name in waiting(self._started, loaded.settings):
            log.warning("configuration", what=f"{name}: takes effect at the next start")
        for warning in loaded.warnings:
            log.warning("configuration", what=warning)
        self._done("applied")


def changes(was: BaseModel, now: BaseModel, prefix: str = "") -> Iterator[str]:
    """The dotted names of the settings that differ, never their values: some are secrets."""
    for name, field in type(now).model_fields.items():
        before, after = getattr(was, name), getattr(now, name)
        at = f"{prefix}{field.alias or name}"
        if before == after:
            continue
        if isinstance(after, BaseModel):
            yield from changes(before, after, f"{at}.")
        elif _entries(before) and _entries(after) and len(before) == len(after):
            for index, pair in enumerate(zip(before, after, strict=True)):
                yield from changes(*pair, f"{at}.{index}.")
        else:
            yield at


def waiting(started: Settings, now: Settings) -> list[str]:
    """The names of settings that differ from those that the process was started with, and that only a start changes."""
    names = [name for name in changes(started, now) if name.startswith(AT_START)]
    if (started.server.tls_cert is None) != (now.server.tls_cert is None):
        names.append("server.tls_cert")
    return names


def _entries(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(entry, BaseModel) for entry in value)
