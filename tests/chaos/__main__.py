"""The run whole, with its progress and its figures. `make chaos ARGS='--calls 5000 --seed 7'` makes another one."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import SystemRandom

import uvloop

from tests.chaos.outcome import figures, table
from tests.chaos.run import Run
from tests.disk import Disk, compiled
from tests.proof import Proof
from tests.redis_servers import running_redis

WHOLE = 100_000
"""Calls of a run whose result is kept."""
LEAST = 2000
"""Of fewer, all may be made before each fault has met some."""
PROOF = "each_call_is_on_the_bill_once_whatever_fails"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--calls", type=int, default=WHOLE, help=f"how many (default: {WHOLE:,})")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6), help="default: by chance")
    asked = parser.parse_args()
    if asked.calls < LEAST:
        parser.error(f"--calls {asked.calls}: {LEAST:,} at least, so that each fault meets some")
    with ExitStack() as around:
        folder = Path(around.enter_context(tempfile.TemporaryDirectory()))
        redis = around.enter_context(running_redis(folder / "redis"))
        runner = around.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        print(f"seed {asked.seed}, {asked.calls:,} calls", flush=True)
        disk, say = Disk(folder, compiled(folder)), partial(print, flush=True)
        outcome = runner.run(Run(folder, disk, redis, asked.seed, asked.calls, say).run())
    found = figures(outcome)
    print(table(found))
    if wrong := [*outcome.failures(), *outcome.idle()]:
        print("", *wrong, sep="\n")
        return 1
    if asked.calls >= WHOLE:
        proof = Proof(PROOF)
        proof(**found)
        proof.keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
