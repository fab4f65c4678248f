"""Memory that one call gives back serves the next: to ask the kernel for it anew costs more than the call itself."""

from __future__ import annotations

import subprocess
import sys

BODIES = """
import resource
from proxy.resources import keep_freed_memory
keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [b"x" * (256 << 10) for _ in range(160)]
    pieces.clear()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""40 MiB in pieces as they are read, given back, three times: how many pages of 4 KiB each time asks of the kernel."""


def test_what_bodies_gave_back_is_used_again() -> None:
    """Of the 10,240 pages that the first round takes, the later ones ask for hardly any."""
    ran = subprocess.run([sys.executable, "-c", BODIES], capture_output=True, text=True, check=True, timeout=60)
    first, *later = map(int, ran.stdout.split())
    assert first > 10_000
    assert max(later) < 100
