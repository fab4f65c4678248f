"""One Weighbridge and one emulator for the journeys that need nothing of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stand import Weighbridge, emulator, weighbridge


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """An emulator's base URL."""
    with emulator() as url:
        yield url


@pytest.fixture(scope="module")
def stand(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("weighbridge"), upstream) as running:
        yield running
