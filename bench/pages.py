"""Puts a result where readers look: into bench/results as JSON and plots, into docs/performance.md and README.md."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import plots
from bench.payloads import PAYLOADS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
TIMES = "\u00d7"
_MARKED = re.compile(r"(<!-- (figures|machine|latency|counts): by make bench -->).*?(<!-- end -->)", re.DOTALL)


def save(content: dict[str, Any]) -> Path:
    """Writes bench/results/DATE.json and the plots, and brings the pages up to date. Returns the JSON's path."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{content['at'][:10]}.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    (RESULTS / "ratios.svg").write_text(plots.ratios(content["payloads"]))
    (RESULTS / "latency.svg").write_text(plots.latency(medians(content["latency_us"])))
    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(page, path.read_text("utf-8"), content), "utf-8")
    return file


def newest(begins: str = "[0-9]") -> dict[str, Any]:
    """The result of the latest date, of those whose files' names begin so."""
    content: dict[str, Any] = json.loads(max(RESULTS.glob(f"{begins}*.json")).read_text())
    return content


def save_as(kind: str, content: dict[str, Any], filled: Callable[[str, dict[str, Any]], str]) -> None:
    """Writes bench/results/KIND-DATE.json of a bench of its own, and brings docs/performance.md up to date."""
    file = RESULTS / f"{kind}-{content['at'][:10]}.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    page = ROOT / "docs" / "performance.md"
    page.write_text(filled(page.read_text("utf-8"), content), "utf-8")
    print(f"written: {os.path.relpath(file)}")


def filled(page: str, text: str, content: dict[str, Any]) -> str:
    """The page's text with this result between its marks."""
    parts = PAGES[page]
    return _MARKED.sub(lambda found: f"{found[1]}{parts[found[2]](content)}{found[3]}", text)


def between_marks(text: str, mark: str, content: str) -> str:
    """The text with this content between one mark and its end."""
    before, begins, rest = text.partition(f"<!-- {mark} -->")
    _, ends, after = rest.partition("<!-- end -->")
    return f"{before}{begins}{content}{ends}{after}"


def medians(latency_us: dict[str, list[list[int]]]) -> dict[str, list[float]]:
    """Of each side the median of its runs' medians, and of their 99th percentiles."""
    return {
        name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in latency_us.items()
    }


def one_line(content: dict[str, Any]) -> str:
    """The README's figure."""
    ratio = {
        (letter, other): f"{spread['median']:.2g} {TIMES}"
        for letter, result in content["payloads"].items()
        for other, spread in result["ratio"].items()
    }
    pictures = {
        other: f"3 MB down {ratio['M', other]}, 20 MB {ratio['L', other]}, 8 MB up and 3 MB down {ratio['U', other]}"
        for other in ("nginx", "fitted")
    }
    added = _added(content)["weighbridge"][0]
    in_redis = f" ({ratio['R', 'nginx']} with limits in Redis)" if ("R", "nginx") in ratio else ""
    return (
        f"S (1 KB) {ratio['S', 'nginx']}{in_redis}, an event of a stream {ratio['E', 'nginx']};"
        f" pictures: {pictures['nginx']}, and where nginx has buffers that fit them, {pictures['fitted']}."
        f" One call at a time: {added:.2f} ms more,"
        " with its fsync"
    )


def table(content: dict[str, Any]) -> str:
    rows = [
        "\n\n| payload | Weighbridge, µs | nginx, µs | ratio, median (smallest to largest) | must | goal"
        f" | nginx with buffers of {content['nginx_picture_buffer']}, µs | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for payload in PAYLOADS:
        result = content["payloads"].get(payload.letter)
        if result is None or "nginx" not in result["ratio"]:
            continue  # results of before it was measured; what isn't measured beside nginx
        rows.append(
            f"| {payload.letter}: {payload.what}, per {payload.per}, {payload.connections} at a time"
            f" | {statistics.median(result['us']['weighbridge']):,.0f} | {_beside(result, 'nginx')}"
            f" | {payload.must:g} | {payload.goal:g} | {_beside(result, 'fitted')} |"
        )
    return "\n".join(rows) + f"\n\n{_pooled(content)}{_openai(content)}"


def _pooled(content: dict[str, Any]) -> str:
    """What ten upstreams cost beside one."""
    times = _times(content, "P", "one")
    return f"With ten upstreams, a call takes {times} the processor time that it takes with one.\n\n" if times else ""


def _openai(content: dict[str, Any]) -> str:
    """What a picture costs that is asked for in OpenAI's shape."""
    times = _times(content, "I", "native")
    said = f"M through POST /v1/images/generations takes {times} the processor time of the native call."
    return f"{said}\n\n" if times else ""


def _times(content: dict[str, Any], letter: str, other: str) -> str:
    """One ratio with its spread; empty for a result of before it was measured."""
    ratio = content["payloads"].get(letter, {}).get("ratio", {}).get(other)
    return f"{ratio['median']:.2g} {TIMES} ({ratio['min']:.2g} to {ratio['max']:.2g})" if ratio else ""


def _beside(result: dict[str, Any], other: str) -> str:
    """The cells of one nginx: its time, and the ratio to it."""
    if other not in result["ratio"]:
        return "|"
    ratio = result["ratio"][other]
    times = f"**{ratio['median']:.2g}** ({ratio['min']:.2g} to {ratio['max']:.2g})"
    return f"{statistics.median(result['us'][other]):,.0f} | {times}"


def machine(content: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in content["machine"].items())
    run = f"{content['pairs']} pairs, {content['seconds']} s each side"
    return f"\n\n{content['at'][:10]}, commit {content['commit']}, {run}: {said}.\n\n"


def latency(content: dict[str, Any]) -> str:
    rows = ["\n\n| S, one call at a time | median | 99th percentile |", "|---|---|---|"]
    for name, (p50, p99) in medians(content["latency_us"]).items():
        rows.append(f"| {plots.SIDES[name]} | {p50 / 1000:.2f} ms | {p99 / 1000:.2f} ms |")
    for name, (p50, p99) in _added(content).items():
        rows.append(f"| **added by {plots.SIDES[name]}** | **{p50:.2f} ms** | {p99:.2f} ms |")
    return "\n".join(rows) + "\n\n"


def _added(content: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Milliseconds more than without a proxy."""
    sides = medians(content["latency_us"])
    p50, p99 = sides.pop("direct")
    return {name: ((side[0] - p50) / 1000, (side[1] - p99) / 1000) for name, side in sides.items()}


def counts(content: dict[str, Any]) -> str:
    counted = content["system_calls"]
    columns = [(letter, side) for letter, sides in counted.items() for side in sides]
    rows = [
        "\n\n| system calls per call | "
        + " | ".join(f"{letter}, {plots.SIDES[side]}" for letter, side in columns)
        + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for kind in next(iter(next(iter(counted.values())).values()), {}):
        rows.append(f"| {kind} | " + " | ".join(f"{counted[letter][side][kind]:g}" for letter, side in columns) + " |")
    return "\n".join(rows) + "\n\n" if len(rows) > 2 else "\n\nNot counted: strace was missing.\n\n"


PAGES: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "README.md": {"figures": one_line},
    "docs/performance.md": {"figures": table, "machine": machine, "latency": latency, "counts": counts},
}
"""What stands between which marks of which page."""
