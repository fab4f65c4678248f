"""The plots of docs/performance.md as SVG: put together here, nothing fetched; light or dark as the reader has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.payloads import PAYLOADS

WIDTH, LEFT, RIGHT, ROW = 760, 200, 60, 40
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .page { fill: #ffffff } .small { font-size: 11px; fill: #57606a } .bold { font-weight: 600 }
  .rule { stroke: #d0d7de } .even { stroke: #57606a } .spread { stroke: #0969da; stroke-width: 5; opacity: .35 }
  .fitted { fill: none; stroke: #0969da; stroke-width: 2 }
  .ours { fill: #0969da } .theirs { fill: #8c959f } .tail { opacity: .35 }
  .must { stroke: #cf222e; stroke-width: 2 } .goal { stroke: #1a7f37; stroke-width: 2; stroke-dasharray: 3 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .page { fill: #0d1117 } .small { fill: #8b949e }
    .rule { stroke: #30363d } .even { stroke: #8b949e } .spread { stroke: #58a6ff } .ours { fill: #58a6ff }
    .fitted { stroke: #58a6ff }
    .theirs { fill: #6e7681 } .must { stroke: #ff7b72 } .goal { stroke: #56d364 }
  }
"""


def ratios(results: dict[str, Any]) -> str:
    """Each payload's processor time as multiples of nginx's: median, spread, must and goal, on a logarithmic axis.

    A ring stands for an nginx whose buffers fit pictures.
    """
    payloads = [payload for payload in PAYLOADS if "nginx" in results.get(payload.letter, {}).get("ratio", {})]
    values = [value for p in payloads for _, ratio in _beside_nginx(results[p.letter]) for value in ratio.values()]
    low = 2 ** math.floor(math.log2(min([*values, 1])))
    high = 2 ** math.ceil(math.log2(max([*values, *(p.must for p in payloads)])))

    def x(ratio: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(ratio / low) / math.log(high / low)

    bottom = 70 + ROW * len(payloads)
    drawn = [
        _text(20, 26, "Processor time, nginx as a plain proxy = 1 (less is better)", "bold"),
        *_legend(WIDTH - RIGHT),
    ]
    tick = low
    while tick <= high:
        drawn += [_line(x(tick), 48, x(tick), bottom, "even" if tick == 1 else "rule")]
        drawn += [_text(x(tick), bottom + 18, f"{tick:g} \u00d7", "small", "middle")]
        tick *= 2
    for at, payload in enumerate(payloads):
        y, result = 70 + ROW * at, results[payload.letter]
        drawn += [
            _text(20, y + 1, f"{payload.letter}, per {payload.per}", "bold"),
            _text(20, y + 16, payload.what, "small"),
        ]
        drawn += [
            _line(x(limit), y - 12, x(limit), y + 12, kind)
            for limit, kind in ((payload.must, "must"), (payload.goal, "goal"))
        ]
        for other, ratio in _beside_nginx(result):
            kind = "ours" if other == "nginx" else "fitted"
            drawn += [_line(x(ratio["min"]), y, x(ratio["max"]), y, "spread")]
            drawn += [f'<circle cx="{x(ratio["median"]):.1f}" cy="{y}" r="5" class="{kind}"/>']
            drawn += [_text(x(ratio["median"]), y - 10, f"{ratio['median']:.2g}", "small", "middle")]
    return _svg(bottom + 34, "Weighbridge's processor time beside nginx's", drawn)


def _beside_nginx(result: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    return [(other, ratio) for other, ratio in result["ratio"].items() if other in ("nginx", "fitted")]


def latency(sides: Mapping[str, Sequence[float]]) -> str:
    """Median and 99th percentile of one call at a time, in ms, by what stands between; `sides` has them in us."""
    high = max(p99 for _, p99 in sides.values())
    scale = (WIDTH - LEFT - 2 * RIGHT) / high
    drawn = [_text(20, 26, "S, one call at a time: median, and pale to the 99th percentile", "bold")]
    for at, (name, (p50, p99)) in enumerate(sides.items()):
        y, kind = 46 + ROW * at, "ours" if name == "weighbridge" else "theirs"
        drawn += [_text(20, y + 16, SIDES[name])]
        drawn += [_bar(LEFT, y, p99 * scale, f"{kind} tail"), _bar(LEFT, y, p50 * scale, kind)]
        drawn += [_text(LEFT + p99 * scale + 8, y + 16, f"{p50 / 1000:.2f} / {p99 / 1000:.2f} ms", "small")]
    return _svg(60 + ROW * len(sides), "Latency of one call at a time", drawn)


SIDES = {"direct": "nothing in between", "nginx": "nginx", "weighbridge": "Weighbridge"}


def _legend(right: float) -> list[str]:
    ring = [
        f'<circle cx="{right - 245}" cy="22" r="5" class="fitted"/>',
        _text(right - 235, 26, "nginx with fitting buffers", "small"),
    ]
    marks = [_line(right - 80, 14, right - 80, 30, "must"), _text(right - 74, 26, "must", "small")]
    return [*ring, *marks, _line(right - 36, 14, right - 36, 30, "goal"), _text(right - 30, 26, "goal", "small")]


def _svg(height: float, title: str, drawn: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size} role="img">'
    page = f'<rect class="page" {size} rx="6"/>'
    return "\n".join([head, f"<title>{title}</title>", f"<style>{STYLE}</style>", page, *drawn, "</svg>", ""])


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _bar(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="22" class="{kind}"/>'
