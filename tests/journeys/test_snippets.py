"""What `weighbridge demo` prints to be pasted, pasted: each snippet makes a picture through Weighbridge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from proxy.cli.image.command import DEFAULT_MODEL
from proxy.cli.snippets import snippets
from tests.sdk.node import NODE, modules
from tests.stand import Weighbridge

RUN = {"curl": ["sh", "snippet.sh"], "Python": [sys.executable, "snippet.py"], "JavaScript": [str(NODE), "snippet.mjs"]}
"""A command for each language, run where the snippet was saved."""


@pytest.mark.parametrize("language", RUN)
def test_a_snippet_saves_a_picture(language: str, stand: Weighbridge, tmp_path: Path) -> None:
    """Run as pasted, it leaves one picture whose name fits what it is, and one call on the bill."""
    before = len(stand.records())
    command = RUN[language]
    (tmp_path / command[-1]).write_text(snippets(stand.base_url, stand.key("demo"), DEFAULT_MODEL)[language])
    (tmp_path / "node_modules").symlink_to(modules())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (saved,) = set(tmp_path.iterdir()) - {tmp_path / command[-1], tmp_path / "node_modules"}
    with Image.open(saved) as picture:
        assert picture.size == (1024, 1024)
        assert picture.get_format_mimetype() == Image.MIME[Image.registered_extensions()[saved.suffix]]
    assert len(stand.records()) == before + 1


def test_every_snippet_is_run() -> None:
    """No snippet is printed that isn't pasted here."""
    assert snippets("http://127.0.0.1:8080", "wb_key", DEFAULT_MODEL).keys() == RUN.keys()
