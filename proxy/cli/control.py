"""How a command asks a running server by its control door, or keeps any from starting meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from proxy.billing.ledger_errors import LedgerLocked
from proxy.billing.ledger_file import lock_ledger
from proxy.billing.ledger_slot import Owner, owner_of
from proxy.cli.options import CommandError
from proxy.config.schema import Settings
from proxy.control.admin import problems, token

STARTS_WITHIN_S = 5
ANSWERS_WITHIN_S = 40
"""A record is written at once, save where the disk is full or another process has the ledger locked: then the server
itself waits for up to thirty seconds."""
CONNECTS_WITHIN_S = 2


class Unanswered(CommandError):
    """The server gave no answer: whether it did what it was asked to do isn't known."""


class ControlDoor:
    """The admin API of the server that runs on a data_dir."""

    def __init__(self, owner: Owner, admin_token: str) -> None:
        self._process = owner.process
        self._url = owner.control_url
        self._headers = {"authorization": f"Bearer {admin_token}"}

    def get(self, path: str) -> Any:
        """What stands at a path below /admin/v1/. Raises CommandError."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """What is answered to a body. Raises CommandError, Unanswered."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        timeout = httpx2.Timeout(ANSWERS_WITHIN_S, connect=CONNECTS_WITHIN_S)
        url = f"{self._url}/admin/v1/{path}"
        try:
            # Not by a proxy that the environment names: it would read the token.
            answer = httpx2.request(method, url, json=body, headers=self._headers, timeout=timeout, trust_env=False)
        except httpx2.HTTPError as error:
            raise Unanswered(
                f"the server that runs ({self._process}) gives no answer at {self._url}: "
                f"{error or type(error).__name__}; is it stopped, or in another container?"
            ) from None
        kind = answer.headers.get("content-type", "")
        if answer.is_success and kind == "application/json":
            return answer.json()
        if kind != problems.MEDIA_TYPE:
            raise CommandError(f"what answers at {self._url} is no Weighbridge of this version: {answer.status_code}")
        raise CommandError(self._sentence(answer))

    def _sentence(self, answer: httpx2.Response) -> str:
        if answer.status_code == problems.Kind.UNAUTHORIZED.http:
            return (
                f"the server that runs ({self._process}) refuses the admin token: was it started with another "
                f"{token.VARIABLE}? Set the same one here"
            )
        problem = answer.json()
        return "; ".join(fault["message"] for fault in problem.get("errors", ())) or str(problem["detail"])


@contextmanager
def held(data_dir: Path, what: str) -> Iterator[None]:
    """Has the lock of the ledger of a data_dir for the block. Raises CommandError, which says `what` there is to do,
    where a server has it; LedgerUnusable."""
    try:
        lock = lock_ledger(data_dir)
    except LedgerLocked as error:
        raise CommandError(f"{str(error).split(':')[0]}: {what}") from None
    try:
        yield
    finally:
        os.close(lock)


def running(settings: Settings, sleep: Callable[[float], object] = time.sleep) -> ControlDoor | None:
    """The server that runs on the data_dir of these settings; None where none does, and its files are free.

    Raises CommandError where it can't be asked, ConfigError where the admin token can't be used.
    """
    data_dir = settings.storage.data_dir
    give_up = time.monotonic() + STARTS_WITHIN_S
    while (owner := owner_of(data_dir / "ledger")) is not None and owner.control_url is None:
        if time.monotonic() > give_up:
            raise CommandError(
                f"{data_dir} is held by {owner.process}, which doesn't say where its control door is: "
                "it starts, or its disk is full. Try again"
            )
        sleep(0.05)
    if owner is None:
        return None
    if (admin_token := token.read(data_dir, os.environ)) is None:
        raise CommandError(
            f"a server runs ({owner.process}), and there is no admin token here to ask it: "
            f"set {token.VARIABLE} to the one that it was started with"
        )
    return ControlDoor(owner, admin_token)
