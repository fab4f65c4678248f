"""Proofs: tests whose size is a setting. `make test` runs them small, `make prove` whole, and keeps what they counted.

A proof takes its size from `sized`, and hands its counts to the fixture `proof`, which marks it as one.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

WHOLE = os.environ.get("WEIGHBRIDGE_PROOFS") == "whole"
RESULTS = Path(__file__).with_name("results")


def sized(quick: int, whole: int) -> int:
    """How much of it is run: `quick` by `make test`, `whole` by `make prove`."""
    return whole if WHOLE else quick


def at_random(examples: int, **more: Any) -> settings:
    """Random cases: by `make test` the same each time, by `make prove` others; without a limit of time for one."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=not WHOLE,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        **more,
    )


class Proof:
    """What one proof counted; `results/NAME.json` once it has passed whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: dict[str, object] = {}

    def __call__(self, **figures: object) -> None:
        """Keeps counts, sizes, and what else the reader of a result wants to know."""
        self.figures |= figures

    def keep(self) -> None:
        """Writes the result, where the proof was run whole."""
        if not (WHOLE and self.figures):
            return
        RESULTS.mkdir(exist_ok=True)
        result = {
            "proof": self.name,
            "date": datetime.now(UTC).date().isoformat(),
            "commit": _commit(),
            "python": platform.python_version(),
            "figures": self.figures,
        }
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        (RESULTS / f"{self.name}.json").write_text(text, "utf-8")


def _commit() -> str:
    """The commit that was tested, `+` behind it where the package differed from it."""
    git = ["git", "-C", str(RESULTS.parent)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "../proxy"], check=False).returncode
    return commit.stdout.strip() + ("+" if changed else "")
