"""`python -m bench.holds`: the longest time that one hostile piece or body holds the event loop, in processor time.

A response passes the meter in pieces as the transport delivers them; the loop has its turn wherever the meter awaits.
A request body is looked at as the relay does it; what the relay moves to a thread is not counted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.errors import CallerErred
from proxy.gateway.meter import Meter
from proxy.gemini import bodies
from proxy.gemini.scanner import WINDOW
from tests.gemini.shapes import SHAPES, filled, texts

RESULTS = Path(__file__).with_name("results")
LIMIT_MS = 5
PIECES = (131_072, 262_144)
"""The longest that the transport reads at once, plain and over TLS."""
BODIES = (bodies.PARSED_AT_ONCE, bodies.SEARCHED_AT_ONCE, 1 << 20, bodies.SKIMMED_AT_ONCE)


def turns(coroutine: Coroutine[Any, Any, None]) -> Iterator[float]:
    """Runs it to its end; the time of each of its turns, in ms."""
    running = True
    while running:
        began = time.thread_time()
        try:
            coroutine.send(None)
        except StopIteration:
            running = False
        yield (time.thread_time() - began) * 1000


def timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def metered(framing: str, encoding: bytes, text: bytes, piece: int, grounding: bool) -> float:
    """The longest turn."""
    meter = Meter(framing, encoding, grounding=grounding)
    longest = 0.0
    for start in range(0, len(text), piece):
        longest = max(longest, *turns(meter.feed(text[start : start + piece])))
    return max(longest, timed(lambda: meter.finish(True)))


def looked_at(body: bytes) -> float:
    """What the relay does of its look at a body on the loop."""

    def look() -> None:
        try:
            outline = bodies.skim(body)
            if not outline.costly():
                outline.read("generateContent", "m", frozenset())
        except CallerErred:
            pass

    return timed(look)


def measure(repeats: int) -> dict[str, float]:
    """The longest hold by what was passed, the least of some repeats: noise only ever adds."""
    holds: dict[str, float] = {}

    def note(kind: str, run: Callable[[], float]) -> None:
        holds[kind] = max(holds.get(kind, 0), min(run() for _ in range(repeats)))

    for piece in PIECES:
        for name, framing, text in texts(WINDOW - 500, 3 * piece):
            for grounding in (False, True):
                note(f"{framing}: {name}", lambda: metered(framing, b"", text, piece, grounding))  # noqa: B023
            packed = gzip.compress(text, 6)
            note(f"gzip {framing}: {name}", lambda: metered(framing, b"gzip", packed, piece, True))  # noqa: B023
    for size in BODIES:
        for name, shape in SHAPES.items():
            body = filled(*shape, size)
            note(f"body: {name}", lambda: looked_at(body))  # noqa: B023
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.holds", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured; the least counts")
    parser.add_argument("--save", action="store_true", help="write bench/results/holds-DATE.json")
    options = parser.parse_args()
    holds = dict(sorted(measure(options.repeats).items(), key=lambda item: -item[1]))
    for kind, hold in holds.items():
        print(f"{hold:8.2f} ms  {kind}{'   beyond the limit' if hold > LIMIT_MS else ''}")
    longest = max(holds.values())
    print(f"{longest:8.2f} ms  the longest of {len(holds)}; the limit is {LIMIT_MS} ms")
    if options.save:
        file = RESULTS / f"holds-{datetime.now(UTC):%Y-%m-%d}.json"
        versions = {"python": platform.python_version(), "processors": os.cpu_count()}
        content = {"longest_ms": round(longest, 2), "limit_ms": LIMIT_MS, **versions}
        file.write_text(json.dumps(content | {"holds_ms": {k: round(v, 2) for k, v in holds.items()}}, indent=2) + "\n")
        print(f"written: {os.path.relpath(file)}")


if __name__ == "__main__":
    main()
