"""Commands run in a folder of their own, with nothing of this machine's environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import app

Weighbridge = Callable[..., Result]


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
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="weighbridge")
