"""One machine for all tests that need one, on which docs/deploy/bare-metal.md has been followed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.machine import Machine, machine
from tests.deploy.reader import Reader


@pytest.fixture(scope="package")
def own_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with systemd, and nothing on it that this one's apt hasn't put there."""
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="package")
def reader(own_machine: Machine) -> Reader:
    """Who has followed the page from its beginning to its end."""
    reader = Reader(own_machine)
    reader.prepare()
    reader.follow()
    return reader
