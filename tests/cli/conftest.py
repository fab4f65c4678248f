"""Commands run in a folder of their own, with nothing of this machine's environment."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import app
from proxy.telemetry import logs

Weighbridge = Callable[..., Result]


class StandardError(io.TextIOBase):
    """Whatever it is just then: the runner puts another in its place for each command."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)


@pytest.fixture
def weighbridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weighbridge:
    """Runs the command line in this process: weighbridge("project", "list")."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("WEIGHBRIDGE_", "GEMINI_", "GOOGLE_")):
            monkeypatch.delenv(name)
    # Wide and without colours, so that what is asserted on isn't folded.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    logs.configure(StandardError(), style="people", quiet=True)  # as the command itself does
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="weighbridge")
