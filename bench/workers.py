"""python -m bench.workers: what a second worker brings on two cores: calls a second, and processor time per call.

Load, upstream and Redis need the same two cores. So beside the plain figure stands what the load took, and what the
two workers would do on two cores of their own: calls per second of the processor time that was left for them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
import urllib.error
from pathlib import Path
from typing import NamedTuple

from bench import measure, stand
from bench.__main__ import commit, machine
from bench.payloads import PAYLOADS, Payload, response_file

CORES = "0,1"
ONE, TWO = 1, 2
OPEN_WITHIN_S = 30


class Run(NamedTuple):
    """One side under load for some seconds."""

    calls_s: float
    """Calls a second."""
    us: float
    """Processor time of all processes of Weighbridge, per call."""
    load: float
    """Cores that wrk, upstream and Redis took."""
    got: float
    """Cores that Weighbridge took. Where it could have had more, something else held it up."""

    @property
    def alone(self) -> float:
        """Calls a second, had the load's processor time been Weighbridge's, too."""
        return self.calls_s * 2 / (2 - self.load)


class Side(NamedTuple):
    pid: int
    port: int
    key: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    stand.PROXY_CORE = stand.LOAD_CORE = CORES  # all share both: who sits where is the kernel's choice, for both sides
    payload = next(each for each in PAYLOADS if each.letter == "R")
    print(f"{commit()}: " + ", ".join(f"{name} {version}" for name, version in machine().items()))
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name:
        folder = Path(name)
        with (
            stand.upstream(folder, [response_file(payload, folder)]) as upstream,
            stand.redis() as first,
            stand.redis() as second,
            stand.weighbridge(folder / "one", upstream, first) as one,
            stand.weighbridge(folder / "two", upstream, second, workers=2) as two,
        ):
            sides = {ONE: Side(*one), TWO: Side(*two)}
            for side in sides.values():
                begin(folder, payload, side)
            pairs = []
            for _ in range(options.pairs):
                pairs.append({workers: run(folder, payload, side, options.seconds) for workers, side in sides.items()})
                print(pairs[-1], flush=True)
    print(table(pairs))


def begin(folder: Path, payload: Payload, side: Side) -> None:
    """Waits until it answers: budgets open when all of its processes have said what they spent. Then warms it up."""
    measure.prepare(folder, payload, side.key)
    give_up = time.monotonic() + OPEN_WITHIN_S
    while True:
        try:
            stand.fetch(
                f"http://127.0.0.1:{side.port}{payload.path}",
                (folder / f"{payload.letter}.json").read_bytes(),
                side.key,
            )
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > give_up:
                raise
            time.sleep(0.1)
        else:
            break
    measure.load(folder, payload, side.port, 3)


def run(folder: Path, payload: Payload, side: Side, seconds: int) -> Run:
    measure.prepare(folder, payload, side.key)
    ours, others, began = stand.processor_seconds(side.pid), _load_seconds(), time.monotonic()
    calls = measure.load(folder, payload, side.port, seconds).calls
    took = time.monotonic() - began
    ours = stand.processor_seconds(side.pid) - ours
    return Run(calls / took, ours / calls * 1e6, (_load_seconds() - others) / took, ours / took)


def _load_seconds() -> float:
    """Processor time of what this program has started, but for any Weighbridge: wrk's is counted when it has ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = spent.ru_utime + spent.ru_stime
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() in ("upstream", "redis-server"):
                total += stand.processor_seconds(int(child))
    return total


def table(pairs: list[dict[int, Run]]) -> str:
    """Medians, and the pairs' ratios with their smallest and largest."""

    def row(what: str, figures: list[tuple[float, float]], form: str) -> str:
        ones, twos = zip(*figures, strict=True)
        ratios = sorted(two / one for one, two in figures)
        spread = f"**{statistics.median(ratios):.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        return f"| {what} | {statistics.median(ones):{form}} | {statistics.median(twos):{form}} | {spread} |"

    return "\n".join(
        (
            "| | one worker | two workers | ratio |",
            "|---|---|---|---|",
            row("calls a second, load and all on two cores", [(p[ONE].calls_s, p[TWO].calls_s) for p in pairs], ",.0f"),
            row("processor time per call, µs", [(p[ONE].us, p[TWO].us) for p in pairs], ",.0f"),
            row("cores that Weighbridge took", [(p[ONE].got, p[TWO].got) for p in pairs], ".2f"),
            row("cores that load, upstream and Redis took", [(p[ONE].load, p[TWO].load) for p in pairs], ".2f"),
            row(
                "calls a second, the load on cores of its own", [(p[ONE].calls_s, p[TWO].alone) for p in pairs], ",.0f"
            ),
        )
    )


if __name__ == "__main__":
    main()
