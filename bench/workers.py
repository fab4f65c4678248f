"""python -m bench.workers: what a second worker brings on two cores: calls a second, and processor time per call.

Load, upstream and Redis need processor time, too, and share the cores with what is measured. So there are four sides:
one worker and all its load on one core; the same on two cores, where the load has the second one nearly to itself; two
that have nothing to do with each other, each with its load on a core of its own, at once; two workers and their load on
two cores. From the first to the last everything is doubled, and nothing else changes. The third is what the machine
itself gives for twice the work: its cores share caches, memory, and often more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import sys
import tempfile
import time
import urllib.error
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from bench import measure, stand
from bench.__main__ import commit, machine
from bench.payloads import PAYLOADS, Payload, response_file

OPEN_WITHIN_S = 30


class Run(NamedTuple):
    """One side under load for some seconds."""

    calls_s: float
    """Calls a second."""
    us: float
    """Processor time of all processes of Weighbridge, per call."""
    ours: float
    """Cores that Weighbridge took."""
    load: float
    """Cores that wrk, upstream and Redis took."""


class Side(NamedTuple):
    name: str
    workers: int
    cores: tuple[str, ...]
    """For each Weighbridge, where all of it runs, its load too: as taskset has it."""

    @property
    def has(self) -> int:
        """How many cores it has in all."""
        return len(",".join(self.cores).split(","))


SIDES = (
    Side("one, on one core", 1, ("0",)),
    Side("one, on two", 1, ("0,1",)),
    Side("two apart", 1, ("0", "1")),
    Side("two, on two", 2, ("0,1",)),
)
FILLED = 0.94
"""What those that keep all their cores busy get of them where the machine does nothing else."""


class Running(NamedTuple):
    """A Weighbridge."""

    cores: str
    workers: int
    pid: int
    port: int
    key: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, default=64, help="of each worker: as many calls share a commit")
    options = parser.parse_args()
    payload = next(each for each in PAYLOADS if each.letter == "R")
    print(f"{commit()}: " + ", ".join(f"{name} {version}" for name, version in machine().items()))
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name, contextlib.ExitStack() as stack:
        sides = []
        for number, side in enumerate(SIDES):
            group = []
            for cores in side.cores:
                (folder := Path(name, f"{number}-{len(group)}")).mkdir()
                group.append((folder, stack.enter_context(running(folder, payload, side.workers, cores))))
            sides.append(group)
        rounds = []
        for _ in range(options.rounds):
            runs = [run(group, payload, options) for group in sides]
            print(*runs, "" if undisturbed(runs) else "disturbed by other programs: left out", sep="\n", flush=True)
            if undisturbed(runs):
                rounds.append(runs)
    if not rounds:
        sys.exit("Other programs took part of the cores in every round: stop them.")
    print(f"{len(rounds)} of {options.rounds} rounds:\n{table(rounds)}")


def undisturbed(runs: Sequence[Run]) -> bool:
    """Whether those had their cores for themselves that leave nothing of them: all but the second."""
    return all(runs[at].ours + runs[at].load >= FILLED * SIDES[at].has for at in (0, 2, 3))


@contextlib.contextmanager
def running(folder: Path, payload: Payload, workers: int, cores: str) -> Generator[Running]:
    """A Weighbridge with an upstream and a Redis of its own, warm."""
    stand.PROXY_CORE = stand.LOAD_CORE = cores
    with (
        stand.upstream(folder, [response_file(payload, folder)]) as upstream,
        stand.redis() as redis,
        stand.weighbridge(folder / "weighbridge", upstream, redis, workers=workers) as started,
    ):
        one = Running(cores, workers, *started)
        measure.prepare(folder, payload, one.key)
        _until_open(folder, payload, one)
        measure.load(folder, payload, one.port, 3)
        yield one


def _until_open(folder: Path, payload: Payload, one: Running) -> None:
    """Budgets open when all of its processes have said what they spent."""
    body, give_up = (folder / f"{payload.letter}.json").read_bytes(), time.monotonic() + OPEN_WITHIN_S
    while True:
        try:
            stand.fetch(f"http://127.0.0.1:{one.port}{payload.path}", body, one.key)
            return
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > give_up:
                raise
        time.sleep(0.1)


def run(group: Sequence[tuple[Path, Running]], payload: Payload, options: argparse.Namespace) -> Run:
    def loaded(folder: Path, one: Running) -> int:
        connections = one.workers * options.connections
        return measure.load(folder, payload, one.port, options.seconds, connections, one.cores).calls

    ours, load, began = _seconds(group), _load_seconds(), time.monotonic()
    with ThreadPoolExecutor() as threads:
        calls = sum(threads.map(lambda one: loaded(*one), group))
    took = time.monotonic() - began
    ours = _seconds(group) - ours
    return Run(calls / took, ours / calls * 1e6, ours / took, (_load_seconds() - load) / took)


def _seconds(group: Sequence[tuple[Path, Running]]) -> float:
    return sum(stand.processor_seconds(one.pid) for _, one in group)


def _load_seconds() -> float:
    """Processor time of all upstreams and Redises, and of each wrk that has ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = spent.ru_utime + spent.ru_stime
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except FileNotFoundError:  # a thread that has just ended
            continue
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() in ("upstream", "redis-server"):
                total += stand.processor_seconds(int(child))
    return total


def table(rounds: Sequence[Sequence[Run]]) -> str:
    """Medians; and what the last side has of each other, with the smallest and largest of a round."""

    def row(what: str, field: str, form: str) -> str:
        sides = list(zip(*([getattr(one, field) for one in runs] for runs in rounds), strict=True))
        cells = [f"{statistics.median(side):{form}}" for side in sides]
        for base in sides[:-1]:
            ratios = sorted(ours / theirs for ours, theirs in zip(sides[-1], base, strict=True))
            cells.append(f"{statistics.median(ratios):.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f})")  # noqa: RUF001
        return f"| {what} | {' | '.join(cells)} |"

    return "\n".join(
        (
            f"| | {' | '.join(side.name for side in SIDES)} | two, of one on one core | of one on two | of two apart |",
            "|---|---|---|---|---|---|---|---|",
            row("calls a second", "calls_s", ",.0f"),
            row("processor time per call, µs", "us", ",.0f"),
            row("cores that Weighbridge took", "ours", ".2f"),
            row("cores that the load took", "load", ".2f"),
        )
    )


if __name__ == "__main__":
    main()
