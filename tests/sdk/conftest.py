"""The two ways to the same upstream: straight to the emulator, and through Weighbridge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx2
import pytest

from proxy.emulator.app import DEFAULT_KEY
from tests.stand import Weighbridge, emulator, weighbridge


class Way(NamedTuple):
    """What a user changes in an SDK's options, and nothing else."""

    base_url: str
    key: str


@pytest.fixture(scope="session")
def direct() -> Iterator[Way]:
    with emulator(seed=1) as base_url:
        yield Way(base_url, DEFAULT_KEY)


@pytest.fixture(scope="session")
def stand(direct: Way, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("sdk"), direct.base_url) as running:
        yield running


@pytest.fixture(scope="session")
def through(stand: Weighbridge) -> Way:
    return Way(stand.base_url, stand.key())


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for all asynchronous tests of a file, for a client's connections belong to one."""
    return "asyncio", {"use_uvloop": True}


MAY_DIFFER = frozenset(
    {
        "alt-svc",
        "connection",
        "content-encoding",  # accept-encoding: identity goes up
        "content-length",
        "date",
        "server-timing",
        "transfer-encoding",
        "x-weighbridge-request-id",
    }
)
"""Headers that are another's hop by hop, listed as different, or a matter of time."""


def crossing(headers: dict[str, str]) -> dict[str, str]:
    """Those headers of a response that are to be the same both ways."""
    return {name: value for name, value in headers.items() if name.lower() not in MAY_DIFFER}


@contextmanager
def targets(direct: Way) -> Iterator[list[str]]:
    """Filled on leaving with the targets, query included, of the requests that the emulator got meanwhile."""
    seen: list[str] = []
    address = f"{direct.base_url}/emulator/requests"
    httpx2.delete(address)
    yield seen
    seen += [request["target"] for request in httpx2.get(address).json()["entries"]]
