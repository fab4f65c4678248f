"""Processes that do a thing at the same moment: each says that it is ready, and waits until all are told to go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def together(module: str, arguments: Sequence[Sequence[str]]) -> list[str]:
    """What each prints in the end; one process of the module for each list of arguments.

    The module prints "ready", then waits for a line on its standard input.
    """
    started = [
        subprocess.Popen(
            [sys.executable, "-m", module, *of_one],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for of_one in arguments
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [process.communicate(timeout=60)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
