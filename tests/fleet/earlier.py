"""An earlier version of the program: out of the repository's own history, run by the same interpreter."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.fleet.node import ROOT

FILL = """
import json, pathlib, sys
from tests.chaos import tenants
folder, count = sys.argv[1:]
print(json.dumps(tenants.make(pathlib.Path(folder), tenants.bounds(int(count)))))
"""


def checked_out(commit: str, folder: Path) -> Path:
    """The tree of that commit. Fails where the history doesn't go back so far."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=False)
    assert archive.returncode == 0, (
        f"commit {commit}, the version to upgrade from, isn't in this repository: its history is shallow. "
        f"Fetch the whole (git fetch --unshallow). git says: {archive.stderr.decode()}"
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def filled(tree: Path, data_dir: Path, count: int) -> dict[str, str]:
    """Has that version make the projects and keys of a run of so many calls; what each key's holder sends."""
    command = [sys.executable, "-c", FILL, str(data_dir), str(count)]
    made = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    held: dict[str, str] = json.loads(made.stdout)
    return held
