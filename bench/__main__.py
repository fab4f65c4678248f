"""make bench: nginx and Weighbridge in interleaved pairs: processor time, latency, system calls; medians and spread."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import measure, pages, stand
from bench.measure import Side
from bench.payloads import PAYLOADS, Payload, response_file
from proxy import __version__

COUNTED = "SM"
"""The payloads whose system calls are counted."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument(
        "--only",
        default="".join(payload.letter for payload in PAYLOADS),
        help="which payloads, such as S or SM; and nothing else is measured",
    )
    parser.add_argument("--pairs", type=int, default=5, help="how many interleaved pairs")
    parser.add_argument("--seconds", type=int, default=6, help="how long each side of a pair runs")
    parser.add_argument(
        "--nginx-buffer", default="64k", metavar="SIZE", help="buffers of the second nginx, for pictures"
    )
    parser.add_argument("--save", action="store_true", help="write the result into bench/results, docs and README")
    options = parser.parse_args()
    letters = "".join(payload.letter for payload in PAYLOADS)
    if not set(options.only) <= set(letters):
        parser.error(f"--only takes letters of {letters}")
    if options.save and options.only != letters:
        parser.error("--save takes a whole run, without --only")
    content = bench([p for p in PAYLOADS if p.letter in options.only], options, whole=options.only == letters)
    if options.save:
        print(f"written: {os.path.relpath(pages.save(content))}")


def bench(payloads: list[Payload], options: argparse.Namespace, *, whole: bool) -> dict[str, Any]:
    """Measures one payload after the other; a `whole` run goes on to latency and system calls."""
    content: dict[str, Any] = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "commit": commit(),
        "machine": machine(),
        "pairs": options.pairs,
        "seconds": options.seconds,
        "nginx_picture_buffer": options.nginx_buffer,
    }
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = list(dict.fromkeys(response_file(payload, folder) for payload in payloads))
        with (
            stand.upstream(folder, files) as upstream,
            stand.nginx(folder / "nginx", upstream) as nginx,
            stand.nginx(folder / "fitted", upstream, options.nginx_buffer) as fitted,
            stand.weighbridge(folder / "embedded", upstream) as (pid, port, key),
            stand.redis() as redis_url,
            stand.weighbridge(folder / "shared", upstream, redis_url) as (shared_pid, shared_port, shared_key),
            stand.weighbridge(folder / "pooled", upstream, upstreams=10, like=(folder / "embedded", key)) as pooled,
        ):
            sides = [Side("nginx", *nginx), Side("weighbridge", pid, port)]
            with_fitted = [Side("fitted", *fitted), *sides]
            with_redis = [sides[0], Side("weighbridge", shared_pid, shared_port)]
            beside_one = [sides[0], Side("one", pid, port), Side("weighbridge", *pooled[:2])]
            among = {p.letter: with_fitted if p.pictures else sides for p in payloads}
            native = next(payload for payload in PAYLOADS if payload.letter == "M")
            beside_native = [Side("native", pid, port, native), sides[1]]
            among |= {"R": with_redis, "P": beside_one, "I": beside_native}
            for payload in payloads:
                own_key = shared_key if payload.in_redis else key
                for asked in {payload, *(side.asked or payload for side in among[payload.letter])}:
                    measure.prepare(folder, asked, own_key)
                assert_same(folder, payload, among[payload.letter], own_key)
            results = content["payloads"] = {}
            for payload in payloads:
                results[payload.letter] = compare(
                    folder, payload, among[payload.letter], options.pairs, options.seconds
                )
                print_row(payload, results[payload.letter])
            if whole:
                content["latency_us"] = latencies(
                    folder, payloads[0], [Side("direct", 0, upstream), *sides], options.pairs
                )
                print(pages.latency(content))
                content["system_calls"] = {
                    p.letter: {side.name: measure.system_calls(folder, p, side, 3) for side in sides}
                    for p in payloads
                    if p.letter in COUNTED
                }
                print(pages.counts(content))
    return content


def assert_same(folder: Path, payload: Payload, sides: list[Side], key: str) -> None:
    """All give the client the same bytes; where they are asked in different ways, the same picture."""
    answers = set()
    for side in sides:
        asked = side.asked or payload
        body = (folder / f"{asked.letter}.json").read_bytes()
        answer = stand.fetch(f"http://127.0.0.1:{side.port}{asked.path}", body, key)
        answers.add(picture_in(answer) if payload.openai else answer)
    assert len(answers) == 1, f"the answers to {payload.letter} differ"


def picture_in(answer: bytes) -> str:
    """The base64 of the picture that was answered: it is by far the longest string."""
    return max(re.findall(r'"([^"]*)"', answer.decode()), key=len)


def compare(folder: Path, payload: Payload, sides: list[Side], pairs: int, seconds: int) -> dict[str, Any]:
    """Processor time of all, in turn, and for each other one the pairs' ratios."""
    for side in sides:
        measure.load(folder, side.asked or payload, side.port, 2)
    runs = [
        [measure.processor_time(folder, side.asked or payload, side, seconds) for side in sides] for _ in range(pairs)
    ]
    *others, ours = zip(*runs, strict=True)
    return {
        "connections": payload.connections,
        "per": payload.per,
        "us": {side.name: [round(run[at], 1) for run in runs] for at, side in enumerate(sides)},
        "ratio": {
            side.name: spread([mine / its for mine, its in zip(ours, theirs, strict=True)])
            for side, theirs in zip(sides, others, strict=False)
        },
    }


def spread(ratios: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(ratios), 2),
        "min": round(min(ratios), 2),
        "max": round(max(ratios), 2),
    }


def latencies(folder: Path, payload: Payload, sides: list[Side], pairs: int) -> dict[str, list[list[int]]]:
    """Median and 99th percentile of one call at a time, in us, run by run."""
    runs: dict[str, list[list[int]]] = {side.name: [] for side in sides}
    for _ in range(pairs):
        for side in sides:
            runs[side.name].append(list(measure.load(folder, payload, side.port, 3, connections=1)[1:]))
    return runs


def print_row(payload: Payload, result: dict[str, Any]) -> None:
    ours = statistics.median(result["us"]["weighbridge"])
    print(f"{payload.letter}  {ours:9.1f} us/{payload.per}   must {payload.must:g}, goal {payload.goal:g}")
    for name, ratio in result["ratio"].items():
        theirs = statistics.median(result["us"][name])
        print(
            f"   {theirs:9.1f} {name:7}  ratio {ratio['median']:5.2f}  ({ratio['min']:.2f} to {ratio['max']:.2f})",
            flush=True,
        )


def commit() -> str:
    """What was measured; `+` where it isn't what was committed."""
    git = ["git", "-C", str(pages.ROOT), "describe", "--always", "--dirty=+"]
    return subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip() or "unknown"


def machine() -> dict[str, str]:
    nginx = subprocess.run([stand.need("nginx"), "-v"], check=True, capture_output=True, text=True).stderr.strip()
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "Weighbridge": __version__,
        "CPython": platform.python_version(),
        "uvloop": version("uvloop"),
        "SQLite": sqlite3.sqlite_version,
        "nginx": nginx.rpartition("/")[2],
        "Linux": platform.release(),
        "on": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
    }


if __name__ == "__main__":
    main()
