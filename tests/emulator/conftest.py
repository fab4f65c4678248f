"""An emulator for each test file, and a client that speaks to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from proxy.emulator.app import DEFAULT_KEY, create_app
from tests.servers import running

TEXT = "gemini-3.8-flash"
IMAGE = "gemini-nano-banana-2.1"


class Client(httpx2.Client):
    """httpx2 with one method more."""

    def ask(
        self, text: str, model: str = TEXT, verb: str = "generateContent", query: str = "", **fields: Any
    ) -> httpx2.Response:
        """A prompt put to a model; `fields` go into the request body."""
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]} | fields
        return self.post(f"/v1beta/models/{model}:{verb}{query}", json=body)

    def last_billed(self) -> dict[str, Any]:
        entries: list[dict[str, Any]] = self.get("/emulator/account").json()["entries"]
        return entries[-1]

    def last_ended(self) -> dict[str, Any]:
        """The last entry, once it is known whether its response was sent."""
        for _ in range(1000):
            if (entry := self.last_billed())["sent_whole"] is not None:
                return entry
        raise AssertionError("the response neither ended nor broke off")


@pytest.fixture(scope="module")
def app() -> Starlette:
    return create_app(seed=1)


@pytest.fixture(scope="module")
def base_url(app: Starlette) -> Iterator[str]:
    with running(app) as url:
        yield url


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[Client]:
    headers = {"x-goog-api-key": DEFAULT_KEY, "accept-encoding": "identity"}
    with Client(base_url=base_url, headers=headers, timeout=20) as found:
        yield found
