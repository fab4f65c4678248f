"""What several tests of this folder ask: a container, and a machine that followed docs/deploy/bare-metal.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy import chart
from tests.deploy.contained import Contained, container
from tests.deploy.machine import Machine, machine
from tests.deploy.reader import Reader


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, containers: None) -> Iterator[Contained]:
    """The image's command, with the chart's weighbridge.toml of one pod where a ConfigMap is mounted."""
    folder = tmp_path_factory.mktemp("container")
    config = folder / "config"
    config.mkdir()
    (config / "gemini-api-key").write_text("a-key-of-nobody")
    text = chart.configuration("alone").replace(chart.SECRETS, "/etc/weighbridge")
    (config / "weighbridge.toml").write_text(text)
    with container(folder, {}) as started:
        assert started.process.stdout is not None
        line = started.process.stdout.readline()
        said = "Weighbridge serves at http://127.0.0.1:8080; metrics at http://127.0.0.1:8081/metrics\n"
        assert line == said, (folder / "log").read_text()
        yield started


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
