"""A container that several tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy import chart
from tests.deploy.contained import Contained, container


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
